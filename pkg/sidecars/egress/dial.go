package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// network is the way out, replaced in tests.
type network struct {
	// lookup resolves a name to addresses.
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// dial connects to an address. It cannot be given a name.
	dial func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error)
}

func (n network) orReal() network {
	if n.lookup == nil {
		n.lookup = lookup
	}
	if n.dial == nil {
		n.dial = func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
			var d net.Dialer
			return d.DialTCP(ctx, "tcp", netip.AddrPort{}, to)
		}
	}
	return n
}

// lookup asks the container's resolver. The final dot makes the name absolute,
// so that no search domain is tried: that would ask for, and dial, a name which
// no rule allows. It also hides a name of one label from net's view of the hosts
// file, which is therefore asked first, with no way to a DNS server.
func lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if !strings.Contains(name, ".") {
		hosts := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("only the hosts file is asked")
		}}
		if found, err := hosts.LookupNetIP(ctx, "ip", name); err == nil {
			return found, nil
		}
	}
	r := net.Resolver{PreferGo: true}
	return r.LookupNetIP(ctx, "ip", name+".")
}

// Bounds of trying the addresses of one name.
const (
	maxAddresses = 8
	minAttempt   = 2 * time.Second
)

// reach connects to a target that the rules allow. The name is resolved once;
// every address is checked and the connection goes to one of those, so that a
// second answer to the same question has no part in it. The error is a
// *refusal.
//
// Addresses that are refused are left out and the others used. Refusing the
// whole answer would protect nothing more, since only checked addresses are
// dialled, and would break every host on networks whose resolver adds
// translated addresses (DNS64).
func (p *Proxy) reach(ctx context.Context, r *rules, t target) (*net.TCPConn, netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.ConnectTimeout)
	defer cancel()
	addresses := []netip.Addr{t.host.addr}
	if !t.host.isAddr() {
		p.metrics.lookups.Add(1)
		found, err := p.network.lookup(ctx, t.host.name)
		if err != nil || len(found) == 0 {
			return nil, netip.AddrPort{}, lookupFailed(ctx, t, err)
		}
		addresses = found
	}
	addresses, refused := permitted(r, addresses, t)
	if len(addresses) == 0 {
		return nil, netip.AddrPort{}, refused
	}

	var failure error
	for i, a := range addresses {
		to := netip.AddrPortFrom(a, t.port)
		conn, err := p.attempt(ctx, to, len(addresses)-i)
		if err == nil {
			return conn, to, nil
		}
		failure = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, netip.AddrPort{}, dialFailed(t, failure)
}

// attempt dials one address with its share of the time that is left.
func (p *Proxy) attempt(ctx context.Context, to netip.AddrPort, remaining int) (*net.TCPConn, error) {
	if deadline, ok := ctx.Deadline(); ok && remaining > 1 {
		share := max(time.Until(deadline)/time.Duration(remaining), minAttempt)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	return p.network.dial(ctx, to)
}

// permitted leaves out the addresses that the rules refuse. With none left, the
// refusal names the first of them and the rule that would allow it.
func permitted(r *rules, addresses []netip.Addr, t target) ([]netip.Addr, *refusal) {
	var good []netip.Addr
	var refused *refusal
	for _, a := range addresses {
		// The resolver library gives IPv4 answers in the mapped form too;
		// mapped or not, what will be dialled is IPv4 and is checked as such.
		a = a.Unmap().WithZone("")
		blocked, ok := r.permits(a, t.port)
		if ok && len(good) < maxAddresses {
			good = append(good, a)
		}
		if !ok && refused == nil {
			refused = refuse(http.StatusForbidden, reasonAddress,
				"%s leads to %s (%s), which needs a range rule that names it, such as %s (EGRESS_ALLOW)",
				t.host, a, blocked.what, rangeFor(a, t.port))
			refused.host = t.host.String()
		}
	}
	return good, refused
}

// rangeFor is the narrowest entry that allows a on port.
func rangeFor(a netip.Addr, port uint16) string {
	text := a.String()
	if a.Is6() {
		text = "[" + text + "]"
	}
	return fmt.Sprintf("%s/%d:%d", text, a.BitLen(), port)
}

func lookupFailed(ctx context.Context, t target, err error) *refusal {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound || err == nil:
		return refuse(http.StatusBadGateway, reasonDNS, "%s has no address", t.host)
	case ctx.Err() != nil || dns != nil && dns.IsTimeout:
		return refuse(http.StatusGatewayTimeout, reasonTimeout, "the lookup of %s took too long (EGRESS_CONNECT_TIMEOUT)", t.host)
	}
	return refuse(http.StatusBadGateway, reasonDNS, "the lookup of %s failed", t.host)
}

func dialFailed(t target, err error) *refusal {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return refuse(http.StatusGatewayTimeout, reasonTimeout, "%s did not answer in time (EGRESS_CONNECT_TIMEOUT)", t)
	}
	return refuse(http.StatusBadGateway, reasonDial, "cannot connect to %s: %v", t, rootCause(err))
}

// rootCause strips the layers that repeat addresses down to "connection
// refused" or the like.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

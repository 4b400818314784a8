package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

// clientHello is what a ClientHello says about where it wants to go.
type clientHello struct {
	serverName string // as sent, empty when there is none
	encrypted  bool   // it has the encrypted_client_hello extension
}

const (
	// recordHandshake is the first byte of every TLS connection (RFC 8446
	// section 5.1, content type handshake).
	recordHandshake = 0x16
	// extensionECH is encrypted_client_hello (RFC 9849).
	extensionECH = 0xfe0d
	// maxHello bounds the bytes read for one ClientHello. The largest in use,
	// with post-quantum keys and session tickets, have a few kilobytes.
	maxHello = 32 << 10
)

var (
	errHelloRead    = errors.New("client hello read")
	errHelloTooLong = errors.New("no ClientHello within the first bytes")
)

// readClientHello reads one ClientHello from src, however it is spread over
// records and segments, and returns it with every byte that was read. The
// parser is crypto/tls's own, stopped before it would answer; it refuses
// duplicate extensions, several server names and trailing dots.
func readClientHello(ctx context.Context, src io.Reader) (hello clientHello, raw []byte, err error) {
	recorder := &helloConn{src: src}
	server := tls.Server(recorder, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			hello.serverName = info.ServerName
			hello.encrypted = slices.Contains(info.Extensions, extensionECH)
			return nil, errHelloRead
		},
	})
	err = server.HandshakeContext(ctx)
	if errors.Is(err, errHelloRead) {
		err = nil
	} else if err == nil {
		err = errors.New("handshake went on without a ClientHello")
	}
	return hello, recorder.raw, err
}

// helloConn lets crypto/tls read and keeps what it read; what crypto/tls would
// write (an alert) goes nowhere.
type helloConn struct {
	src io.Reader
	raw []byte
}

func (c *helloConn) Read(p []byte) (int, error) {
	room := maxHello - len(c.raw)
	if room <= 0 {
		return 0, errHelloTooLong
	}
	n, err := c.src.Read(p[:min(len(p), room)])
	c.raw = append(c.raw, p[:n]...)
	return n, err
}

func (c *helloConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *helloConn) Close() error                     { return nil }
func (c *helloConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *helloConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *helloConn) SetDeadline(time.Time) error      { return nil }
func (c *helloConn) SetReadDeadline(time.Time) error  { return nil }
func (c *helloConn) SetWriteDeadline(time.Time) error { return nil }

// checkServerName makes the ClientHello name the CONNECT host. A tunnel to an
// IP address may carry no name (RFC 6066 has none for addresses) or one that a
// host rule allows on that port: behind the address of a content network every
// other name is another server.
func (r *rules) checkServerName(hello clientHello, t target, allowECH bool) *refusal {
	mismatch := func(format string, args ...any) *refusal {
		refused := refuse(http.StatusForbidden, reasonServerName, format, args...)
		refused.serverName = hello.serverName
		return refused
	}
	if hello.encrypted && !allowECH {
		refused := refuse(http.StatusForbidden, reasonECH,
			"the ClientHello hides its server name (encrypted_client_hello); EGRESS_TLS_ECH=allow lets it through")
		refused.serverName = hello.serverName
		return refused
	}
	if hello.serverName == "" {
		if t.host.isAddr() {
			return nil
		}
		return mismatch("the ClientHello has no server name, which must be %s", t.host)
	}
	named, err := parseHost(hello.serverName)
	if err != nil || named.isAddr() {
		return mismatch("the ClientHello's server name is not a host name")
	}
	if t.host.isAddr() {
		if _, ok := r.name(named.name, t.port); !ok {
			return mismatch("the ClientHello names %s, which no host rule allows on port %d", named, t.port)
		}
		return nil
	}
	if named != t.host {
		return mismatch("the ClientHello names %s, but CONNECT named %s", named, t.host)
	}
	return nil
}

package egress

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one request or tunnel from its first decision to its audit line.
type exchange struct {
	p      *Proxy
	kind   string
	target target
	client string
	rule   string // the entry that allowed it; set before anything is dialled
	start  time.Time

	up, down atomic.Int64
	active   atomic.Int64 // time of the last transfer, Unix nanoseconds

	mu      sync.Mutex
	address netip.Addr // what was dialled, unless through an upstream
	cancel  context.CancelFunc
	close   func() // ends a tunnel's connections
	revoked bool
	ended   bool
}

// begin registers an exchange. That happens before the rules are consulted, so
// that a reload either is seen by the decision or sees the exchange.
func (p *Proxy) begin(ctx context.Context, h head, client string) (context.Context, *exchange) {
	x := &exchange{p: p, kind: kindHTTP, target: h.target, client: client, start: time.Now()}
	if h.isConnect() {
		x.kind = kindConnect
	}
	ctx, x.cancel = context.WithCancel(ctx)
	x.active.Store(x.start.UnixNano())
	p.mu.Lock()
	p.exchanges[x] = struct{}{}
	p.mu.Unlock()
	return ctx, x
}

// dialled notes the address in use and reports whether the rules in force now
// still allow it: they may be newer than those it was dialled under.
func (x *exchange) dialled(a netip.Addr) *refusal {
	x.mu.Lock()
	x.address = a
	x.mu.Unlock()
	if !x.allowedBy(x.p.policy.Load().rules) {
		x.revoke()
	}
	if x.isRevoked() {
		return x.revocation()
	}
	return nil
}

// onRevoke registers what ends the exchange, and ends it at once if the rules
// have changed meanwhile.
func (x *exchange) onRevoke(end func()) {
	x.mu.Lock()
	x.close = end
	revoked := x.revoked
	x.mu.Unlock()
	if revoked {
		end()
	}
}

// allowedBy decides again, on what is known by now.
func (x *exchange) allowedBy(r *rules) bool {
	if _, ok := r.allows(x.target); !ok {
		return false
	}
	x.mu.Lock()
	address := x.address
	x.mu.Unlock()
	if !address.IsValid() {
		return true
	}
	_, ok := r.permits(address, x.target.port)
	return ok
}

// revoke ends the exchange because no rule allows it any more.
func (x *exchange) revoke() {
	x.mu.Lock()
	x.revoked = true
	x.mu.Unlock()
	x.hangUp()
}

// hangUp ends the exchange's connections.
func (x *exchange) hangUp() {
	x.mu.Lock()
	cancel, end := x.cancel, x.close
	x.mu.Unlock()
	cancel()
	if end != nil {
		end()
	}
}

// forgetContext lets go of the request's context, which a tunnel would
// otherwise hold for its life.
func (x *exchange) forgetContext() {
	x.mu.Lock()
	cancel := x.cancel
	x.cancel = func() {}
	x.mu.Unlock()
	cancel()
}

func (x *exchange) isRevoked() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.revoked
}

func (x *exchange) revocation() *refusal {
	return refuse(http.StatusForbidden, reasonRevoked, "the rule that allowed %s is gone from this bottle's allowlist", x.target)
}

func (x *exchange) countUp(n int64) {
	x.up.Add(n)
	x.p.metrics.up.Add(n)
	x.touch()
}

func (x *exchange) countDown(n int64) {
	x.down.Add(n)
	x.p.metrics.down.Add(n)
	x.touch()
}

func (x *exchange) touch() { x.active.Store(time.Now().UnixNano()) }

func (x *exchange) idleFor() time.Duration {
	return time.Duration(time.Now().UnixNano() - x.active.Load())
}

// finish writes the audit line and forgets the exchange; refused is nil for
// what was served. Only the first call counts.
func (x *exchange) finish(refused *refusal) {
	x.mu.Lock()
	if x.ended {
		x.mu.Unlock()
		return
	}
	x.ended = true
	address, revoked, cancel := x.address, x.revoked, x.cancel
	x.mu.Unlock()
	if revoked {
		refused = x.revocation()
	}
	line := auditLine{
		Decision: decisionAllow,
		Rule:     x.rule,
		Kind:     x.kind,
		Host:     x.target.host.String(),
		Port:     x.target.port,
		Up:       x.up.Load(),
		Down:     x.down.Load(),
		Client:   x.client,
	}
	if address.IsValid() {
		line.Address = address.String()
	}
	x.p.record(line, refused, x.start)
	cancel()
	x.p.mu.Lock()
	delete(x.p.exchanges, x)
	x.p.mu.Unlock()
}

// record completes a line and writes it.
func (p *Proxy) record(line auditLine, refused *refusal, start time.Time) {
	line.Time = time.Now()
	line.DurationMS = float64(line.Time.Sub(start).Microseconds()) / 1000
	o := outcome{kind: line.Kind, decision: line.Decision}
	if refused != nil {
		line.Decision, line.Rule, line.ServerName = refused.decision(), string(refused.reason), refused.serverName
		o.decision, o.reason = line.Decision, refused.reason
	}
	p.metrics.count(o)
	if err := p.audit.write(line); err != nil {
		p.metrics.auditFailures.Add(1)
		p.logf("audit line not written: %v", err)
	}
}

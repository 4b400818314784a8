package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"
)

// Proxy is the forward proxy. Its methods may be called from any goroutine.
type Proxy struct {
	cfg     Config
	network network
	audit   *auditLog
	metrics *metrics
	goproxy *goproxy.ProxyHttpServer
	pieces  piecePool

	policy     atomic.Pointer[policy]
	reloading  sync.Mutex
	loadedFile fileStamp // as of New

	mu        sync.Mutex
	exchanges map[*exchange]struct{}
	listener  *vettingListener // nil unless serving
	scrapes   net.Listener
	ready     chan struct{} // closed when both listeners are there
}

// New makes a proxy and reads its allowlist. The error names every entry that
// is wrong. Audit lines go to audit, each in one Write; a slow writer slows the
// proxy down, and after a failed one nothing is let through until a line could
// be written again.
func New(cfg Config, audit io.Writer) (*Proxy, error) {
	p := &Proxy{
		cfg:       cfg,
		network:   cfg.network.orReal(),
		audit:     &auditLog{w: audit},
		metrics:   newMetrics(cfg.MaxConnections),
		exchanges: map[*exchange]struct{}{},
		ready:     make(chan struct{}),
	}
	// Looked at before reading: a change in between is then seen by watch.
	p.loadedFile = fileState(cfg.AllowFile)
	r, err := loadRules(cfg)
	if err != nil {
		return nil, err
	}
	p.metrics.rules.Store(int64(r.count))
	p.policy.Store(p.newPolicy(r))
	p.goproxy = newGoproxy()
	return p, nil
}

// newGoproxy sets goproxy up to take nothing from the environment, to dial
// nothing by itself and to log nothing: its messages quote requests.
func newGoproxy() *goproxy.ProxyHttpServer {
	g := goproxy.NewProxyHttpServer()
	g.Logger = log.New(io.Discard, "", 0)
	g.Tr = &http.Transport{DialContext: neverDial}
	g.ConnectDial = func(string, string) (net.Conn, error) { return nil, errNeverDial }
	g.KeepAcceptEncoding = true
	g.OnRequest().HandleConnectFunc(hijackTunnel)
	g.OnRequest().DoFunc(forwardRequest)
	return g
}

var errNeverDial = errors.New("a connection was asked for past the rules")

func neverDial(context.Context, string, string) (net.Conn, error) { return nil, errNeverDial }

func (p *Proxy) logf(format string, args ...any) {
	l := p.cfg.ErrorLog
	if l == nil {
		l = log.Default()
	}
	l.Printf(format, args...)
}

func (p *Proxy) connLimits() connLimits {
	return connLimits{p.cfg.MaxHeaderBytes, p.cfg.HeaderTimeout, p.cfg.IdleTimeout}
}

type connKey struct{}

// serve is the one HTTP handler: it finds the vetting's judgement on the request
// and lets the rules decide.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*vettedConn)
	client := r.RemoteAddr
	v, ok := c.next()
	switch {
	case !ok, v.refusal == nil && (v.head.method != r.Method || v.head.uri != r.RequestURI):
		// The vetting and net/http disagree on where a request is. Nothing
		// that was not vetted is served.
		p.turnDown(w, c, head{}, malformed("it is not what was announced"), client)
		return
	case v.refusal != nil && isProbe(v.head, c):
		w.WriteHeader(http.StatusNoContent)
		return
	case v.refusal != nil:
		p.turnDown(w, c, v.head, v.refusal, client)
		return
	}

	ctx, x := p.begin(r.Context(), v.head, client)
	current := p.policy.Load()
	if p.audit.broken() {
		p.answer(w, c, x, refuse(http.StatusServiceUnavailable, reasonAudit,
			"the audit log cannot be written, so nothing is let through"))
		return
	}
	rule, ok := current.rules.allows(x.target)
	if !ok {
		p.answer(w, c, x, p.noRule(current.rules, x.target))
		return
	}
	x.rule = rule
	r = r.WithContext(ctx)
	if v.head.isConnect() {
		p.connect(w, r, c, x, current)
	} else {
		p.forward(w, r, c, x, current)
	}
}

// noRule explains which rule would allow t.
func (p *Proxy) noRule(r *rules, t target) *refusal {
	where := "EGRESS_ALLOW"
	if p.cfg.AllowFile != "" {
		where += " or EGRESS_ALLOW_FILE"
	}
	if t.host.isAddr() {
		if _, ok := r.literal(t.host.addr, t.port); !ok {
			what := "an IP address"
			if b, special := specialBlock(t.host.addr); special {
				what += " (" + b.what + ")"
			}
			return refuse(http.StatusForbidden, reasonNoRule, "%s is %s that no range rule names; %s would allow it (%s)",
				t, what, rangeFor(t.host.addr, t.port), where)
		}
		inner, _ := embeddedIPv4(t.host.addr)
		return refuse(http.StatusForbidden, reasonAddress, "%s stands for %s, which needs a range rule of its own, such as %s (%s)",
			t, inner, rangeFor(inner, t.port), where)
	}
	entry := t.host.name
	if t.port != 80 && t.port != 443 {
		entry = t.String()
	}
	return refuse(http.StatusForbidden, reasonNoRule, "%s is not on this bottle's allowlist; the entry %s would allow it (%s)", t, entry, where)
}

// answer ends an exchange that is not going to be served.
func (p *Proxy) answer(w http.ResponseWriter, c *vettedConn, x *exchange, refused *refusal) {
	x.finish(refused)
	if x.kind == kindConnect {
		// What follows a CONNECT was meant for the other side of it.
		c.lastAnswer()
		w.Header().Set("Connection", "close")
	}
	refused.write(w)
}

// turnDown answers a request that the vetting refused, and ends the connection.
func (p *Proxy) turnDown(w http.ResponseWriter, c *vettedConn, h head, refused *refusal, client string) {
	c.lastAnswer()
	p.recordRefused(h, refused, client)
	w.Header().Set("Connection", "close")
	refused.write(w)
}

// recordRefused writes the line of a request that got no exchange.
func (p *Proxy) recordRefused(h head, refused *refusal, client string) {
	line := auditLine{Kind: kindHTTP, Host: refused.host, Port: h.target.port, Client: client}
	switch {
	case h.isConnect():
		line.Kind = kindConnect
	case h.method == "":
		line.Kind = kindUnknown
	}
	p.record(line, refused, time.Now())
}

// open returns the exchanges going on.
func (p *Proxy) open() []*exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*exchange, 0, len(p.exchanges))
	for x := range p.exchanges {
		all = append(all, x)
	}
	return all
}

// isProbe recognises [Proxy.Check] from inside the container.
func isProbe(h head, c *vettedConn) bool {
	return h.method == http.MethodGet && h.uri == probePath && remoteAddr(c.Conn) == localAddr(c.Conn)
}

// Check returns nil when the proxy answers. A proxy at its connection limit is
// busy, not broken.
func (p *Proxy) Check(ctx context.Context) error {
	p.mu.Lock()
	l := p.listener
	p.mu.Unlock()
	if l == nil {
		return errors.New("egress is not serving")
	}
	if p.audit.broken() {
		return errors.New("the audit log cannot be written")
	}
	if l.full() {
		return nil
	}
	return probe(ctx, l.Addr().String(), http.StatusNoContent)
}

// Check asks the egress of cfg, from any process of the same container, whether
// it works. It goes to the metrics listener, which [Config.MaxConnections] does
// not limit.
func Check(ctx context.Context, cfg Config) error {
	return probe(ctx, cfg.MetricsListen, http.StatusOK)
}

// probe sends GET /healthz to a listening address and wants a status.
func probe(ctx context.Context, listen string, want int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://egress"+probePath, nil)
	if err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	request.Close = true
	// An address without a host, or with the unspecified one, is dialled on
	// the local system.
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, listen)
		},
	}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != want {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 512))
		return fmt.Errorf("egress: answered %d to a health check: %s", response.StatusCode, text)
	}
	return nil
}

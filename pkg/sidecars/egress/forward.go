package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/elazarl/goproxy"
)

// forwarding is one plain HTTP request on its way.
type forwarding struct {
	p         *Proxy
	x         *exchange
	c         *vettedConn
	transport *http.Transport
	body      *countedBody // the request's
	truncated bool         // the response's body did not end properly
}

type forwardingKey struct{}

// forward serves an allowed plain HTTP request. goproxy relays it and calls
// back through forwardRequest.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, c *vettedConn, x *exchange, current *policy) {
	f := &forwarding{p: p, x: x, c: c, transport: current.transport}
	defer x.finish(nil)
	// Without this, net/http throws away request bytes that arrive after the
	// response has begun. An error means that the connection is gone.
	_ = http.NewResponseController(w).EnableFullDuplex()
	ctx := context.WithValue(r.Context(), forwardingKey{}, f)
	p.goproxy.ServeHTTP(&streamWriter{ResponseWriter: w}, r.WithContext(ctx))
	if f.truncated {
		if r.Context().Err() == nil { // else it was the client that left
			x.finish(refuse(http.StatusBadGateway, reasonResponse, "the response broke off"))
		}
		// Ending the response in good order would make the part look whole.
		panic(http.ErrAbortHandler)
	}
}

// forwardRequest is goproxy's request handler.
func forwardRequest(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	f, ok := r.Context().Value(forwardingKey{}).(*forwarding)
	if !ok {
		return r, goproxy.NewResponse(r, goproxy.ContentTypeText, http.StatusInternalServerError, "egress: internal error\n")
	}
	f.prepare(r)
	ctx.RoundTripper = goproxy.RoundTripperFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
		return f.roundTrip(r), nil
	})
	return r, nil
}

// prepare turns the client's request into the one that is sent.
func (f *forwarding) prepare(r *http.Request) {
	stripHopByHop(r.Header)
	authority := f.x.target.String()
	if f.x.target.port == 80 {
		authority = f.x.target.host.bracketed()
	}
	r.URL.Scheme, r.URL.Host, r.URL.User, r.Host = "http", authority, nil, authority
	r.Close = false
	r.Trailer = nil // trailer fields are dropped, RFC 9110 section 6.5.1
	r.Header.Add("Via", "1.1 egress")
	if !hasField(r.Header, "User-Agent") {
		r.Header["User-Agent"] = nil // net/http would add its own
	}
	if r.Body == nil || r.ContentLength == 0 {
		r.Body = http.NoBody
		return
	}
	f.body = &countedBody{ReadCloser: r.Body, count: f.x.countUp}
	r.Body = f.body
}

func hasField(h http.Header, name string) bool {
	_, ok := h[name]
	return ok
}

// stripHopByHop removes what concerns one connection only: the fields that
// Connection names and those that RFC 9110 section 7.6.1 and its predecessors
// list. Upgrade goes with them, so a plain request cannot turn into something
// else (WebSocket, h2c) behind the checks; a WebSocket takes CONNECT.
func stripHopByHop(h http.Header) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range []string{
		"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
		"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	} {
		h.Del(name)
	}
}

// roundTrip sends the request and returns the answer, its own if there is none.
func (f *forwarding) roundTrip(r *http.Request) *http.Response {
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if conn, ok := info.Conn.(*idleConn); ok {
			// A refusal cancels the context, which RoundTrip reports.
			_ = f.x.dialled(conn.checked)
		}
	}}
	response, err := f.transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		return f.refused(r, f.explain(r.Context(), err))
	}
	switch response.StatusCode {
	case http.StatusSwitchingProtocols:
		response.Body.Close()
		return f.refused(r, refuse(http.StatusBadGateway, reasonResponse, "%s switched protocols without being asked", f.x.target))
	case http.StatusProxyAuthRequired:
		response.Body.Close()
		who := f.x.target.String()
		if f.p.cfg.Upstream != nil {
			who = "the upstream proxy"
		}
		return f.refused(r, refuse(http.StatusBadGateway, reasonUpstream, "%s asks for proxy credentials", who))
	}
	stripHopByHop(response.Header)
	body := &countedBody{ReadCloser: response.Body, count: f.x.countDown}
	body.failed = func(error) { f.truncated = true }
	response.Body = body
	return response
}

// refused records the refusal and makes it the response.
func (f *forwarding) refused(r *http.Request, refused *refusal) *http.Response {
	f.x.finish(refused)
	response := goproxy.NewResponse(r, "text/plain; charset=utf-8", refused.status, "egress: "+refused.text+"\n")
	response.Header.Set("X-Content-Type-Options", "nosniff")
	return response
}

// explain finds the cause of a failed round trip. The error's own text is not
// repeated: it may quote what was sent.
func (f *forwarding) explain(ctx context.Context, err error) *refusal {
	var refused *refusal
	var timeout net.Error
	switch t := f.x.target; {
	case f.x.isRevoked():
		return f.x.revocation()
	case f.c.bodyRefusal() != nil:
		return f.c.bodyRefusal()
	case errors.As(err, &refused):
		return refused
	case f.body != nil && f.body.error() != nil:
		if errors.Is(f.body.error(), os.ErrDeadlineExceeded) {
			return refuse(http.StatusRequestTimeout, reasonClient, "the request's body did not go on in time (EGRESS_IDLE_TIMEOUT)")
		}
		return refuse(http.StatusBadRequest, reasonClient, "the request's body broke off")
	case ctx.Err() != nil:
		return refuse(http.StatusBadGateway, reasonClient, "the client went away before %s answered", t)
	case errors.As(err, &timeout) && timeout.Timeout():
		return refuse(http.StatusGatewayTimeout, reasonTimeout, "%s did not answer in time (EGRESS_IDLE_TIMEOUT)", t)
	case f.p.cfg.Upstream != nil:
		return refuse(http.StatusBadGateway, reasonUpstream, "the upstream proxy cannot be reached or gave no valid answer (EGRESS_UPSTREAM)")
	}
	return refuse(http.StatusBadGateway, reasonResponse, "%s gave no valid answer", f.x.target)
}

// newTransport makes the client side of plain HTTP for one set of rules. A
// reload makes a new one, so that no kept connection outlives the rules that it
// was dialled under.
func (p *Proxy) newTransport(r *rules) *http.Transport {
	t := &http.Transport{
		DisableCompression:     true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        p.cfg.IdleTimeout,
		ResponseHeaderTimeout:  p.cfg.IdleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if p.cfg.Upstream != nil {
		t.Proxy = http.ProxyURL(p.cfg.Upstream)
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, p.cfg.ConnectTimeout)
			defer cancel()
			conn, err := p.dialUpstream(ctx)
			if err != nil {
				return nil, err
			}
			return &idleConn{Conn: conn, timeout: p.cfg.IdleTimeout}, nil
		}
		return t
	}
	t.DialContext = func(ctx context.Context, _, authority string) (net.Conn, error) {
		to, err := parseAuthority(authority, 0)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		conn, address, err := p.reach(ctx, r, to)
		if err != nil {
			return nil, err
		}
		p.metrics.connected(time.Since(began).Seconds())
		return &idleConn{conn, p.cfg.IdleTimeout, address.Addr()}, nil
	}
	return t
}

// idleConn fails when nothing has moved in either direction for a while.
type idleConn struct {
	net.Conn
	timeout time.Duration
	checked netip.Addr // the address dialled, invalid for an upstream's
}

func (c *idleConn) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *idleConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func remoteAddr(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

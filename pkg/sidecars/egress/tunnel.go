package egress

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"
)

// tunnel relays a CONNECT between client and target.
type tunnel struct {
	p      *Proxy
	x      *exchange
	rules  *rules
	target *net.TCPConn
	toSend []byte // what the target sent together with an upstream's answer

	client  *vettedConn
	early   []byte // what the client sent together with CONNECT
	started bool

	parts   atomic.Int32 // goroutines that have not left
	refused *refusal
}

type tunnelKey struct{}

// connect serves an allowed CONNECT: it reaches the target, then has goproxy
// take over the client's connection, and relays. goproxy calls back through
// hijackTunnel.
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request, c *vettedConn, x *exchange, current *policy) {
	t := &tunnel{p: p, x: x, rules: current.rules, client: c}
	ctx := r.Context()
	var refused *refusal
	began := time.Now()
	var address netip.AddrPort
	var err error
	if p.cfg.Upstream != nil {
		t.target, t.toSend, err = p.reachThroughUpstream(ctx, x.target)
	} else {
		t.target, address, err = p.reach(ctx, t.rules, x.target)
	}
	if !errors.As(err, &refused) {
		refused = x.dialled(address.Addr())
	}
	if refused == nil {
		p.metrics.connected(time.Since(began).Seconds())
		p.goproxy.ServeHTTP(&connectWriter{w, t}, r.WithContext(context.WithValue(ctx, tunnelKey{}, t)))
		if t.started {
			return
		}
		refused = refuse(http.StatusInternalServerError, reasonClient, "the connection could not be taken over")
	}
	if t.target != nil {
		t.target.Close()
	}
	p.answer(w, c, x, refused)
}

// hijackTunnel is goproxy's CONNECT handler. Everything is decided by then.
func hijackTunnel(host string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	t, ok := ctx.Req.Context().Value(tunnelKey{}).(*tunnel)
	if !ok {
		return goproxy.RejectConnect, host
	}
	return &goproxy.ConnectAction{
		Action: goproxy.ConnectHijack,
		Hijack: func(*http.Request, net.Conn, *goproxy.ProxyCtx) { t.start() },
	}, host
}

// connectWriter keeps what net/http and the vetting have read ahead, which a
// plain hijack through goproxy would lose.
type connectWriter struct {
	http.ResponseWriter
	t *tunnel
}

// Hijack implements [http.Hijacker].
func (w *connectWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered())
	w.t.early = append(append(w.t.early, ahead...), w.t.client.surrender()...)
	return conn, rw, nil
}

// start answers the client and relays in the background, so that net/http can
// let go of its buffers.
func (t *tunnel) start() {
	t.started = true
	t.p.metrics.tunnels.Add(1)
	t.x.onRevoke(t.hangUp)
	t.x.forgetContext()
	t.parts.Store(1)
	go t.run()
}

func (t *tunnel) hangUp() {
	t.target.Close()
	t.client.tcp.Close()
}

// run answers the client, judges its first bytes and leaves the relaying to two
// goroutines of their own: reading a ClientHello takes a large stack, which a
// tunnel must not keep for its life.
//
// Under EGRESS_TLS_SNI=enforce no byte of the client leaves before the first
// ones are judged:
//
//   - On port 443 they must be a ClientHello that names the host. A TLS server
//     waits for it, so nothing is copied back before.
//   - On other ports the server may speak first, so the way back is open at
//     once, and what is not TLS passes: the rule named that port, or it is 80.
//     A ClientHello is judged as on 443.
func (t *tunnel) run() {
	defer t.leave()
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	if t.send(t.client.tcp, []byte(established)) != nil {
		return
	}
	opening := t.early
	t.early = nil
	strict := t.x.target.port == 443
	if t.p.cfg.TLSServerName {
		if !strict {
			t.enter(t.relayDown)
		}
		opening, t.refused = t.judgeOpening(opening, strict)
		if t.refused != nil {
			t.hangUp()
			return
		}
	}
	if strict || !t.p.cfg.TLSServerName {
		t.enter(t.relayDown)
	}
	t.enter(func() { t.relayUp(opening) })
}

// enter starts a goroutine of the tunnel.
func (t *tunnel) enter(part func()) {
	t.parts.Add(1)
	go func() {
		defer t.leave()
		part()
	}()
}

// leave ends a goroutine of the tunnel, and with the last one the tunnel.
func (t *tunnel) leave() {
	if t.parts.Add(-1) > 0 {
		return
	}
	t.hangUp()
	t.x.finish(t.refused)
	t.client.Close()
	t.p.metrics.tunnels.Add(-1)
}

// relayDown copies to the client: what came with an upstream's answer, then the
// rest.
func (t *tunnel) relayDown() {
	if t.send(t.client.tcp, t.toSend) != nil {
		t.hangUp()
		return
	}
	t.x.countDown(int64(len(t.toSend)))
	t.toSend = nil
	t.pump(t.client.tcp, t.target, t.x.countDown)
}

// relayUp copies to the target: what was read already, then the rest.
func (t *tunnel) relayUp(opening []byte) {
	if t.send(t.target, opening) != nil {
		t.hangUp()
		return
	}
	t.x.countUp(int64(len(opening)))
	t.pump(t.target, t.client.tcp, t.x.countUp)
}

// judgeOpening reads the client's first bytes, beginning with those in early, up
// to the end of a ClientHello if they are one, and returns them. With strict, anything else
// is refused. A client that leaves without a word is not an error.
func (t *tunnel) judgeOpening(early []byte, strict bool) ([]byte, *refusal) {
	client := t.client.tcp
	wait := t.p.cfg.IdleTimeout
	if strict {
		wait = t.p.cfg.HeaderTimeout
	}
	opening := early
	for len(opening) == 0 {
		_ = client.SetReadDeadline(time.Now().Add(wait))
		chunk := make([]byte, 1<<10)
		n, err := client.Read(chunk)
		opening = chunk[:n]
		if n > 0 {
			break
		}
		switch {
		case strict && errors.Is(err, os.ErrDeadlineExceeded):
			return nil, refuse(http.StatusForbidden, reasonNotTLS, "no ClientHello came on port 443 in time (EGRESS_HEADER_TIMEOUT)")
		case errors.Is(err, os.ErrDeadlineExceeded) && t.x.idleFor() < wait:
			continue
		}
		if strict || !errors.Is(err, io.EOF) {
			// Nobody is left to relay for, or the tunnel is idle.
			t.hangUp()
		}
		return nil, nil
	}
	t.x.touch()
	if opening[0] != recordHandshake {
		if strict {
			return nil, refuse(http.StatusForbidden, reasonNotTLS, "what came on port 443 is not TLS (EGRESS_TLS_SNI)")
		}
		return opening, nil
	}
	_ = client.SetReadDeadline(time.Now().Add(t.p.cfg.HeaderTimeout))
	src := &replay{opening, client}
	hello, raw, err := readClientHello(context.Background(), src)
	if err != nil {
		return nil, refuse(http.StatusForbidden, reasonBadHello, "the ClientHello could not be read")
	}
	if refused := t.rules.checkServerName(hello, t.x.target, t.p.cfg.AllowECH); refused != nil {
		return nil, refused
	}
	return append(raw, src.first...), nil
}

// replay reads first, then from the connection.
type replay struct {
	first []byte
	conn  *net.TCPConn
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.conn.Read(p)
}

func (t *tunnel) send(to *net.TCPConn, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := to.SetWriteDeadline(time.Now().Add(t.p.cfg.IdleTimeout)); err != nil {
		return err
	}
	_, err := to.Write(b)
	return err
}

// Sizes of copying, in bytes, and how long a burst may pause. An idle tunnel
// holds no buffer; a busy one borrows one, or lets the kernel move the data.
const (
	pieceSize  = 16 << 10
	burstChunk = 256 << 10
	burstPause = time.Second
)

// piecePool holds the buffers of tunnels that are not copying.
type piecePool struct{ pool sync.Pool }

func (p *piecePool) get() *[pieceSize]byte {
	if b, ok := p.pool.Get().(*[pieceSize]byte); ok {
		return b
	}
	return new([pieceSize]byte)
}

func (p *piecePool) put(b *[pieceSize]byte) { p.pool.Put(b) }

// pump copies one direction to its end and passes the end on. When it fails, or
// the tunnel has gone idle, it ends both directions.
func (t *tunnel) pump(dst, src *net.TCPConn, count func(int64)) {
	reader, err := newLazyReader(src, &t.p.pieces)
	for err == nil {
		if err = t.trickle(dst, src, reader, count); err == nil {
			err = t.burst(dst, src, count)
		}
	}
	if !errors.Is(err, io.EOF) || dst.CloseWrite() != nil {
		t.hangUp()
	}
}

// trickle copies small pieces. It returns nil when a read fills the buffer:
// then there is more to come.
func (t *tunnel) trickle(dst, src *net.TCPConn, reader *lazyReader, count func(int64)) error {
	idle := t.p.cfg.IdleTimeout
	for {
		if err := src.SetReadDeadline(time.Now().Add(idle - min(t.x.idleFor(), idle))); err != nil {
			return err
		}
		piece, err := reader.next()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && t.x.idleFor() < idle {
				continue // the other direction moved
			}
			return err
		}
		n := len(piece)
		err = t.send(dst, piece)
		reader.release()
		if err != nil {
			return err
		}
		count(int64(n))
		if n == pieceSize {
			return nil
		}
	}
}

// burst copies large pieces, on Linux by splice(2) inside
// [net.TCPConn.ReadFrom]. It returns nil when the source pauses.
func (t *tunnel) burst(dst, src *net.TCPConn, count func(int64)) error {
	idle := t.p.cfg.IdleTimeout
	pause := min(burstPause, idle/2)
	for {
		start := time.Now()
		if err := src.SetReadDeadline(start.Add(pause)); err != nil {
			return err
		}
		if err := dst.SetWriteDeadline(start.Add(idle)); err != nil {
			return err
		}
		n, err := dst.ReadFrom(&io.LimitedReader{R: src, N: burstChunk})
		count(n)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(start) < idle:
			// Only the read's deadline can have passed. Its data has all
			// been written: a splice empties its pipe before it waits.
			return nil
		case err != nil:
			return err
		case n < burstChunk:
			return io.EOF
		}
	}
}

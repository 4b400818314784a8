package egress

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// vettedConn stands between a client's connection and net/http. It hands on a
// header block only as a whole and only after vetHead has accepted it, follows
// the body to its end, and starts again with the next block, so that no request
// on the connection reaches net/http unseen. A refused block is replaced by
// standIn: net/http then calls the handler in the right order, and the handler
// finds the refusal with next.
//
// As net.Conn demands of its users here, there is one reader at a time; the
// deadline methods and next may be called from other goroutines.
type vettedConn struct {
	net.Conn // tcp; not embedded as such, for its WriteTo would go past Read
	tcp      *net.TCPConn
	limits   connLimits
	onClose  func(unserved []vetted)

	// Used by the reader only.
	in      []byte // received, not yet judged
	scanned int    // how much of in holds no end of a header block
	out     []byte // judged, not yet handed on
	state   connState
	body    *bodyFollower
	blank   bool // an empty line before the next request was left out

	mu       sync.Mutex
	outside  time.Time // deadline set by net/http
	own      time.Time // deadline of a header block or of the body's next byte
	queue    []vetted
	bodyFail *refusal
	refused  bool

	closeOnce sync.Once
}

// vetted is the judgement on one header block.
type vetted struct {
	head    head
	refusal *refusal
}

type connLimits struct {
	headerBytes   int
	headerTimeout time.Duration
	idleTimeout   time.Duration
}

type connState uint8

const (
	stateHead    connState = iota // a header block comes next
	stateBody                     // a body comes next
	stateTunnel                   // after CONNECT: no more HTTP on this connection
	stateRefused                  // nothing more is read
)

// standIn is the request that net/http sees in place of a refused one. It holds
// nothing of what the client sent.
const standIn = "GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"

const readSize = 4 << 10

func newVettedConn(tcp *net.TCPConn, limits connLimits, onClose func([]vetted)) *vettedConn {
	c := &vettedConn{Conn: tcp, tcp: tcp, limits: limits, onClose: onClose}
	c.setOwnDeadline(time.Now().Add(limits.headerTimeout))
	return c
}

// Read implements [net.Conn] for net/http.
func (c *vettedConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if len(c.out) > 0 {
			n := copy(p, c.out)
			if c.out = c.out[n:]; len(c.out) == 0 {
				c.out = nil
			}
			return n, nil
		}
		switch c.state {
		case stateHead:
			if err := c.readHead(); err != nil {
				return 0, err
			}
		case stateBody:
			return c.readBody(p)
		case stateTunnel:
			// net/http reads a byte ahead to notice a client that goes
			// away; Hijack gives it back. Should it ever take what it read
			// for a request, next has nothing to say about it, and the
			// handler refuses.
			return c.readRaw(p)
		case stateRefused:
			return 0, io.EOF
		}
	}
}

// readHead receives until in begins with a complete header block, judges it and
// puts into out what net/http may see.
func (c *vettedConn) readHead() error {
	for {
		end, refused := c.findHeadEnd()
		switch {
		case refused != nil:
			c.push(vetted{refusal: refused})
			return nil
		case end > 0:
			c.judge(end)
			return nil
		case len(c.in) >= c.limits.headerBytes:
			c.push(vetted{refusal: refuse(http.StatusRequestHeaderFieldsTooLarge, reasonTooLarge,
				"the request's header is larger than %d bytes (EGRESS_MAX_HEADER_BYTES)", c.limits.headerBytes)})
			return nil
		}
		if err := c.receive(); err != nil {
			if refused := c.brokenHead(err); refused != nil {
				c.push(vetted{refusal: refused})
				return nil
			}
			return err
		}
	}
}

// findHeadEnd returns the length of the complete header block at the beginning
// of in, or 0. A line that ends in a bare LF is refused at once: waiting for
// CRLF CRLF would swallow what another parser takes for the body.
func (c *vettedConn) findHeadEnd() (int, *refusal) {
	if !c.blank && bytes.HasPrefix(c.in, crlf) {
		// RFC 9112 section 2.2: one empty line before a request is ignored.
		c.in, c.scanned, c.blank = c.in[len(crlf):], 0, true
	}
	if len(c.in) > 0 && !isTokenByte(c.in[0]) && (c.blank || c.in[0] != '\r') {
		// Not HTTP at all, such as TLS spoken to the proxy's own port.
		return 0, malformed("it does not begin with a method")
	}
	for c.scanned < len(c.in) {
		i := bytes.IndexByte(c.in[c.scanned:], '\n')
		if i < 0 {
			c.scanned = len(c.in)
			return 0, nil
		}
		at := c.scanned + i
		if at == 0 || c.in[at-1] != '\r' {
			return 0, malformed("a line of its header does not end in CRLF")
		}
		c.scanned = at + 1
		if at >= 3 && c.in[at-2] == '\n' {
			return at + 1, nil
		}
	}
	return 0, nil
}

// judge vets the block in[:end] and moves on to what follows it.
func (c *vettedConn) judge(end int) {
	block := c.in[:end:end]
	h, refused := vetHead(block)
	if refused != nil {
		c.push(vetted{h, refused})
		return
	}
	c.in, c.scanned, c.blank = c.in[end:], 0, false
	c.out = block
	switch {
	case h.isConnect():
		c.state = stateTunnel
	case h.length != 0:
		c.state, c.body = stateBody, newBodyFollower(h.length)
	}
	if len(c.in) == 0 {
		c.in = nil
	}
	c.setOwnDeadline(time.Time{})
	c.push(vetted{head: h})
}

// brokenHead is the refusal for a header block that will not be completed, nil
// when there is nothing to answer: no byte of a request has come, or the
// deadline was net/http's way to interrupt a read.
func (c *vettedConn) brokenHead(err error) *refusal {
	if len(c.in) == 0 {
		return nil
	}
	c.mu.Lock()
	expired := !c.own.IsZero() && !time.Now().Before(c.own)
	c.mu.Unlock()
	switch {
	case errors.Is(err, io.EOF):
		return malformed("it ends before its header is complete")
	case errors.Is(err, os.ErrDeadlineExceeded) && expired:
		return refuse(http.StatusRequestTimeout, reasonSlowHeader,
			"the request's header was not complete after %v (EGRESS_HEADER_TIMEOUT)", c.limits.headerTimeout)
	}
	return nil
}

// push queues a judgement for the handler. After a refusal nothing more is read.
func (c *vettedConn) push(v vetted) {
	c.mu.Lock()
	c.queue = append(c.queue, v)
	c.refused = c.refused || v.refusal != nil
	c.mu.Unlock()
	if v.refusal != nil {
		c.state, c.in, c.out = stateRefused, nil, []byte(standIn)
	}
}

// next returns the judgement on the request that net/http has just read. There
// is exactly one for each; ok is false if net/http found a request where there
// was none.
func (c *vettedConn) next() (v vetted, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return vetted{}, false
	}
	v, c.queue = c.queue[0], c.queue[1:]
	return v, true
}

// readBody hands on body bytes.
func (c *vettedConn) readBody(p []byte) (int, error) {
	var b []byte
	if len(c.in) > 0 {
		b = c.in[:min(len(c.in), len(p))]
	} else {
		c.setOwnDeadline(time.Now().Add(c.limits.idleTimeout))
		n, err := c.tcp.Read(p[:c.body.limit(len(p))])
		if n == 0 {
			return 0, err
		}
		b = p[:n]
	}
	n, refused := c.body.consume(b)
	if refused != nil {
		c.mu.Lock()
		c.bodyFail, c.refused = refused, true
		c.mu.Unlock()
		c.state, c.in = stateRefused, nil
		return 0, refused
	}
	if len(c.in) > 0 {
		copy(p, b[:n])
		c.in = c.in[n:]
	} else if n < len(b) {
		c.in = bytes.Clone(b[n:])
	}
	if c.body.done() {
		c.state, c.body, c.scanned = stateHead, nil, 0
		c.setOwnDeadline(time.Time{})
	}
	return n, nil
}

// bodyRefusal is what was wrong with a body that readBody broke off.
func (c *vettedConn) bodyRefusal() *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bodyFail
}

func (c *vettedConn) readRaw(p []byte) (int, error) {
	if len(c.in) > 0 {
		n := copy(p, c.in)
		c.in = c.in[n:]
		return n, nil
	}
	return c.tcp.Read(p)
}

// receive appends what the client sends next to in.
func (c *vettedConn) receive() error {
	if len(c.in) > 0 {
		c.startHead()
	}
	if cap(c.in)-len(c.in) < readSize/2 {
		grown := make([]byte, len(c.in), max(2*len(c.in), readSize))
		copy(grown, c.in)
		c.in = grown
	}
	room := min(cap(c.in), max(c.limits.headerBytes, len(c.in)+1))
	n, err := c.tcp.Read(c.in[len(c.in):room])
	c.in = c.in[:len(c.in)+n]
	if n > 0 {
		c.startHead()
		return nil
	}
	if len(c.in) == 0 {
		c.in = nil // an idle connection holds no buffer
	}
	return err
}

// startHead starts the clock of a header block, which on a connection's first
// runs already.
func (c *vettedConn) startHead() {
	c.mu.Lock()
	running := !c.own.IsZero()
	c.mu.Unlock()
	if !running {
		c.setOwnDeadline(time.Now().Add(c.limits.headerTimeout))
	}
}

// SetReadDeadline implements [net.Conn]; the earlier of t and the connection's
// own deadline counts.
func (c *vettedConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outside = t
	return c.applyDeadline()
}

func (c *vettedConn) setOwnDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = t
	// An error means a closed connection, which the next read reports.
	_ = c.applyDeadline()
}

func (c *vettedConn) applyDeadline() error {
	t := c.outside
	if t.IsZero() || !c.own.IsZero() && c.own.Before(t) {
		t = c.own
	}
	return c.tcp.SetReadDeadline(t)
}

// SetDeadline implements [net.Conn].
func (c *vettedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Write implements [net.Conn]. A client that takes nothing for the idle timeout
// is given up.
func (c *vettedConn) Write(p []byte) (int, error) {
	if err := c.tcp.SetWriteDeadline(time.Now().Add(c.limits.idleTimeout)); err != nil {
		return 0, err
	}
	return c.tcp.Write(p)
}

// CloseWrite lets net/http end its side before the connection.
func (c *vettedConn) CloseWrite() error { return c.tcp.CloseWrite() }

// lastAnswer announces that the next answer ends the connection, so that Close
// lets the client read it.
func (c *vettedConn) lastAnswer() {
	c.mu.Lock()
	c.refused = true
	c.mu.Unlock()
}

// Close implements [net.Conn]. After a refusal the client may still be sending;
// closing at once would make its kernel throw away the answer with a reset.
func (c *vettedConn) Close() error {
	var err error
	c.closeOnce.Do(func() {
		c.mu.Lock()
		unserved, refused := c.queue, c.refused
		c.queue = nil
		c.mu.Unlock()
		if refused {
			go func() {
				linger(c.tcp)
				c.onClose(unserved)
			}()
			return
		}
		err = c.tcp.Close()
		c.onClose(unserved)
	})
	return err
}

// surrender ends the HTTP use of the connection: it returns what was received
// and not handed on. From then on tcp is used directly, and Close gives back
// the place in the limit.
func (c *vettedConn) surrender() (early []byte) {
	early, c.in, c.out = c.in, nil, nil
	c.mu.Lock()
	c.queue = nil
	c.mu.Unlock()
	// An error means a closed connection, which the next read reports.
	_ = c.tcp.SetDeadline(time.Time{})
	return early
}

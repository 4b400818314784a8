package egress

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

// vettingListener accepts at most a number of connections at once and gives
// each its vetting. Beyond the limit a client is told so at once: one that
// waits in a queue cannot know what for.
type vettingListener struct {
	*net.TCPListener
	p       *Proxy
	slots   chan struct{}
	turning chan struct{} // bounds those being told
}

// maxTurning is how many surplus clients are answered at once; more are closed
// without an answer.
const maxTurning = 64

func (p *Proxy) newListener(l *net.TCPListener) *vettingListener {
	return &vettingListener{
		TCPListener: l,
		p:           p,
		slots:       make(chan struct{}, p.cfg.MaxConnections),
		turning:     make(chan struct{}, maxTurning),
	}
}

// Accept implements [net.Listener].
func (l *vettingListener) Accept() (net.Conn, error) {
	for {
		tcp, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		l.p.metrics.connections.Add(1)
		select {
		case l.slots <- struct{}{}:
			l.p.metrics.open.Add(1)
			client := tcp.RemoteAddr().String()
			return newVettedConn(tcp, l.p.connLimits(), func(unserved []vetted) {
				<-l.slots
				l.p.metrics.open.Add(-1)
				l.p.recordUnserved(unserved, client)
			}), nil
		default:
			l.turnAway(tcp)
		}
	}
}

func (l *vettingListener) full() bool { return len(l.slots) == cap(l.slots) }

// turnAway answers 503 without reading a request.
func (l *vettingListener) turnAway(tcp *net.TCPConn) {
	refused := refuse(http.StatusServiceUnavailable, reasonConnections,
		"%d connections are open, which is the limit (EGRESS_MAX_CONNECTIONS)", cap(l.slots))
	l.p.record(auditLine{Kind: kindUnknown, Client: tcp.RemoteAddr().String()}, refused, time.Now())
	select {
	case l.turning <- struct{}{}:
	default:
		tcp.Close()
		return
	}
	go func() {
		defer func() { <-l.turning }()
		body := "egress: " + refused.text + "\n"
		_ = tcp.SetWriteDeadline(time.Now().Add(lingerTime))
		_, _ = fmt.Fprintf(tcp, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"+
			"Content-Length: %d\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s", len(body), body)
		linger(tcp)
	}()
}

// Bounds of what is read from a refused client after the answer.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// linger closes a connection so that the peer can still read what was written.
func linger(tcp *net.TCPConn) {
	defer tcp.Close()
	if tcp.CloseWrite() != nil || tcp.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	buffer := make([]byte, 1<<10)
	for total := 0; total < lingerBytes; {
		n, err := tcp.Read(buffer)
		if err != nil {
			return
		}
		total += n
	}
}

// recordUnserved writes a line for each request that was vetted and never came
// to the handler, because net/http had its own objection or the connection
// ended first.
func (p *Proxy) recordUnserved(unserved []vetted, client string) {
	for _, v := range unserved {
		refused := v.refusal
		if refused == nil {
			refused = refuse(http.StatusBadRequest, reasonNotServed, "the connection ended before the request was served")
			refused.host = v.head.target.host.String()
		}
		p.recordRefused(v.head, refused, client)
	}
}

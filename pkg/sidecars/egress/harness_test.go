package egress

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds how long a test waits for something that must happen. It is
// never the time a passing test takes.
const patience = 20 * time.Second

// internet is the world behind the proxy: names, and servers at addresses. The
// addresses are public ones; what really listens is on loopback. Whatever is
// dialled without a server there reaches the trap, which fails the test.
type internet struct {
	mu      sync.Mutex
	names   map[string][]netip.Addr
	servers map[netip.AddrPort]string
	lookups []string
	dials   []netip.AddrPort
	trap    net.Listener
}

func newInternet(t testing.TB) *internet {
	n := &internet{
		names:   map[string][]netip.Addr{},
		servers: map[netip.AddrPort]string{},
	}
	n.trap = listen(t)
	go func() {
		for {
			conn, err := n.trap.Accept()
			if err != nil {
				return
			}
			t.Errorf("the trap at %v was reached", n.trap.Addr())
			conn.Close()
		}
	}()
	return n
}

// name gives a name its addresses.
func (n *internet) name(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addresses {
		n.names[name] = append(n.names[name], netip.MustParseAddr(a))
	}
}

// serve puts the server listening at real behind a public address and port.
func (n *internet) serve(public string, real net.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.servers[netip.MustParseAddrPort(public)] = real.String()
}

func (n *internet) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups = append(n.lookups, name)
	found, ok := n.names[name]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return slices.Clone(found), nil
}

func (n *internet) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, to)
	real, ok := n.servers[to]
	n.mu.Unlock()
	if !ok {
		real = n.trap.Addr().String()
	}
	if real == "refused" {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", real)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// seen returns and forgets what was looked up and dialled.
func (n *internet) seen() (lookups []string, dials []netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	lookups, dials = n.lookups, n.dials
	n.lookups, n.dials = nil, nil
	return lookups, dials
}

// auditBuffer collects audit lines.
type auditBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	fail error
}

func (b *auditBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return 0, b.fail
	}
	return b.text.Write(p)
}

func (b *auditBuffer) setFail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

func (b *auditBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *auditBuffer) lines(t testing.TB) []auditLine {
	t.Helper()
	var lines []auditLine
	for text := range strings.Lines(b.String()) {
		var line auditLine
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&line); err != nil {
			t.Fatalf("audit line %q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// wait returns the audit lines once there are n of them.
func (b *auditBuffer) wait(t testing.TB, n int) []auditLine {
	t.Helper()
	eventually(t, fmt.Sprintf("%d audit lines", n), func() bool {
		return strings.Count(b.String(), "\n") >= n
	})
	lines := b.lines(t)
	if len(lines) != n {
		t.Fatalf("%d audit lines, want %d:\n%s", len(lines), n, b)
	}
	return lines
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for start := time.Now(); !condition(); {
		if time.Since(start) > patience {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// bottle is a running proxy with its world.
type bottle struct {
	*Proxy
	net   *internet
	audit *auditBuffer
	log   *auditBuffer
	addr  string
	stop  func() error
}

// run starts a proxy with environment entries "KEY=VALUE" on top of the
// defaults. It is stopped at the end of the test, and must stop well.
func run(t testing.TB, world *internet, environ ...string) *bottle {
	t.Helper()
	return runConfig(t, world, func(*Config) {}, environ...)
}

func runConfig(t testing.TB, world *internet, change func(*Config), environ ...string) *bottle {
	t.Helper()
	cfg, err := ConfigFromEnv(append([]string{
		"EGRESS_LISTEN=127.0.0.1:0", "EGRESS_METRICS_LISTEN=127.0.0.1:0", "EGRESS_DRAIN_TIMEOUT=2s",
	}, environ...))
	if err != nil {
		t.Fatal(err)
	}
	b := &bottle{net: world, audit: &auditBuffer{}, log: &auditBuffer{}}
	cfg.ErrorLog = log.New(b.log, "", 0)
	if world != nil {
		cfg.network = network{lookup: world.lookup, dial: world.dial}
	}
	change(&cfg)
	if b.Proxy, err = New(cfg, b.audit); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx) }()
	select {
	case <-b.ready:
	case err := <-served:
		t.Fatal(err)
	}
	b.addr = b.listener.Addr().String()
	b.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return b
}

// client is one connection to the proxy.
type client struct {
	*net.TCPConn
	r *bufio.Reader
	t testing.TB
}

func (b *bottle) dial(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &client{conn.(*net.TCPConn), bufio.NewReader(conn), t}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.TCPConn, text); err != nil {
		c.t.Fatal(err)
	}
}

// response reads the next response and its body.
func (c *client) response(method string) (*http.Response, string) {
	c.t.Helper()
	response, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no response: %v", err)
	}
	if method == http.MethodConnect && response.StatusCode == http.StatusOK {
		return response, ""
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("response body: %v", err)
	}
	return response, string(body)
}

// connect opens a tunnel and wants it to be established.
func (b *bottle) connect(t testing.TB, authority string) *client {
	t.Helper()
	c := b.dial(t)
	c.send(connect(authority))
	if response, body := c.response(http.MethodConnect); response.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT %s: %s %s", authority, response.Status, body)
	}
	return c
}

// Read goes through the buffer that responses are read with.
func (c *client) Read(p []byte) (int, error) { return c.r.Read(p) }

// ended wants the proxy to close the connection without sending more.
func (c *client) ended() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 {
		c.t.Errorf("the connection went on with %q", rest)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Error("the connection was not closed")
	}
}

func connect(authority string) string {
	return "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n\r\n"
}

// get is a plain request; fields are further header lines without CRLF.
func get(url string, fields ...string) string {
	authority, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return lines(append([]string{"GET " + url + " HTTP/1.1", "Host: " + authority}, fields...)...)
}

// lines makes a header block.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// server starts a plain HTTP server.
func server(t testing.TB, handler http.HandlerFunc) net.Addr {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr()
}

// echo starts a server that sends back what it gets, after a greeting.
func echo(t testing.TB, greeting string) net.Addr {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, greeting)
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr()
}

// silent starts a server that accepts and fails the test if a byte arrives.
func silent(t testing.TB) net.Addr {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if n, _ := conn.Read(make([]byte, 1)); n > 0 {
					t.Error("a byte reached a server through a tunnel that was to be refused")
				}
			}()
		}
	}()
	return l.Addr()
}

type addrPort = netip.AddrPort

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

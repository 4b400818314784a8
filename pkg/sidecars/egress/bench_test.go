package egress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/elazarl/goproxy"
)

// The benchmarks compare this proxy with a goproxy that has no rules, side by
// side in one run on loopback, and report ratios.

// plainGoproxy starts one and returns its address.
func plainGoproxy(b *testing.B) string {
	g := goproxy.NewProxyHttpServer()
	g.Logger = log.New(io.Discard, "", 0)
	g.Tr = &http.Transport{MaxIdleConnsPerHost: 16}
	g.ConnectDial = nil
	s := httptest.NewServer(g)
	b.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// benchProxy starts this package's proxy, with every name at 127.0.0.1.
func benchProxy(b *testing.B, environ ...string) string {
	cfg, err := ConfigFromEnv(append([]string{"EGRESS_LISTEN=127.0.0.1:0", "EGRESS_METRICS_LISTEN=127.0.0.1:0"}, environ...))
	if err != nil {
		b.Fatal(err)
	}
	cfg.network.lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	p, err := New(cfg, io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	select {
	case <-p.ready:
	case err := <-served:
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	return p.listener.Addr().String()
}

func allowPort(port string) string {
	return fmt.Sprintf("EGRESS_ALLOW=api.example.com:%s,127.0.0.0/8:%s", port, port)
}

// open makes a tunnel and returns it with its reader.
func open(b *testing.B, proxy, authority string) (net.Conn, *bufio.Reader) {
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		b.Fatal(err)
	}
	io.WriteString(conn, connect(authority))
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, " 200 ") {
		rest, _ := io.ReadAll(r)
		b.Fatalf("%q, %v, %s", line, err, rest)
	}
	for line != "\r\n" {
		if line, err = r.ReadString('\n'); err != nil {
			b.Fatal(err)
		}
	}
	return conn, r
}

// leave ends a tunnel to a server that resets it on the first byte. No end has
// its port in TIME_WAIT then: thousands of those would use up the machine's.
func leave(conn net.Conn) {
	io.WriteString(conn, "x")
	io.Copy(io.Discard, conn)
	reset(conn)
}

func reset(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkConnectLatency opens tunnels through both proxies in turn, each to a
// server that accepts at once. This proxy looks the name up (in no time), checks
// address and port and writes an audit line; goproxy is given the address.
func BenchmarkConnectLatency(b *testing.B) {
	l := listen(b)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn.Read(make([]byte, 1))
				reset(conn)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	plain, ours := plainGoproxy(b), benchProxy(b, allowPort(port))
	measure := func(proxy, authority string) time.Duration {
		start := time.Now()
		conn, _ := open(b, proxy, authority)
		took := time.Since(start)
		leave(conn)
		return took
	}
	var plainTimes, ourTimes []time.Duration
	for b.Loop() {
		plainTimes = append(plainTimes, measure(plain, "127.0.0.1:"+port))
		ourTimes = append(ourTimes, measure(ours, "api.example.com:"+port))
	}
	a, c := median(plainTimes), median(ourTimes)
	b.ReportMetric(float64(a.Microseconds()), "goproxy-µs/connect")
	b.ReportMetric(float64(c.Microseconds()), "egress-µs/connect")
	b.ReportMetric(float64((c - a).Microseconds()), "added-µs/connect")
	b.ReportMetric(float64(c)/float64(a), "ratio")
}

const transfer = 256 << 20

// BenchmarkTunnelThroughput downloads through a tunnel of each proxy in turn.
func BenchmarkTunnelThroughput(b *testing.B) {
	l := listen(b)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.ReadFull(conn, make([]byte, 1))
				chunk := make([]byte, 128<<10)
				for range transfer / len(chunk) {
					if _, err := conn.Write(chunk); err != nil {
						return
					}
				}
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	plain, ours := plainGoproxy(b), benchProxy(b, allowPort(port))
	buffer := make([]byte, 128<<10)
	measure := func(proxy, authority string) time.Duration {
		conn, r := open(b, proxy, authority)
		defer conn.Close()
		start := time.Now()
		io.WriteString(conn, "x")
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buffer)
		if n != transfer {
			b.Fatalf("%d bytes, %v", n, err)
		}
		return time.Since(start)
	}
	compareThroughput(b, func() time.Duration { return measure(plain, "127.0.0.1:"+port) },
		func() time.Duration { return measure(ours, "api.example.com:"+port) })
}

// BenchmarkPlainThroughput downloads plain HTTP responses through each proxy.
func BenchmarkPlainThroughput(b *testing.B) {
	chunk := make([]byte, 128<<10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(transfer))
		for range transfer / len(chunk) {
			w.Write(chunk)
		}
	}))
	b.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	plain, ours := plainGoproxy(b), benchProxy(b, allowPort(port))
	measure := func(proxy, authority string) time.Duration {
		conn, err := net.Dial("tcp", proxy)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		io.WriteString(conn, get("http://"+authority+"/"))
		response, err := http.ReadResponse(bufio.NewReaderSize(conn, 64<<10), nil)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, response.Body)
		if n != transfer {
			b.Fatalf("%d bytes, %v", n, err)
		}
		return time.Since(start)
	}
	compareThroughput(b, func() time.Duration { return measure(plain, "127.0.0.1:"+port) },
		func() time.Duration { return measure(ours, "api.example.com:"+port) })
}

func compareThroughput(b *testing.B, plain, ours func() time.Duration) {
	var plainTimes, ourTimes []time.Duration
	for b.Loop() {
		plainTimes = append(plainTimes, plain())
		ourTimes = append(ourTimes, ours())
	}
	a, c := median(plainTimes), median(ourTimes)
	b.ReportMetric(transfer/a.Seconds()/1e6, "goproxy-MB/s")
	b.ReportMetric(transfer/c.Seconds()/1e6, "egress-MB/s")
	b.ReportMetric(float64(a)/float64(c), "ratio")
}

// childVariable makes the test binary serve the proxy instead of testing, see
// BenchmarkMemory.
const childVariable = "EGRESS_TEST_CHILD"

func TestMain(m *testing.M) {
	if allow := os.Getenv(childVariable); allow != "" {
		serveChild(allow)
		return
	}
	os.Exit(m.Run())
}

// serveChild serves until its standard input ends, and prints its address.
func serveChild(allow string) {
	cfg, err := ConfigFromEnv([]string{"EGRESS_LISTEN=127.0.0.1:0", "EGRESS_METRICS_LISTEN=127.0.0.1:0", allow})
	if err != nil {
		log.Fatal(err)
	}
	p, err := New(cfg, io.Discard)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-p.ready
		fmt.Println(p.listener.Addr())
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := p.Serve(ctx); err != nil {
		log.Fatal(err)
	}
}

// BenchmarkMemory opens 1000 tunnels in a proxy of its own process, moves a
// ClientHello and an answer through each, and reports the resident memory, of
// which the process without tunnels has had the part named "empty".
func BenchmarkMemory(b *testing.B) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		b.Skip("no /proc here")
	}
	const tunnels = 1000
	l := listen(b)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer reset(conn)
				io.Copy(conn, conn)
			}()
		}
	}()
	authority := l.Addr().String()
	_, port, _ := net.SplitHostPort(authority)
	// The target is an address, so a ClientHello may have no name; it is read
	// and judged all the same.
	greeting := hello(b, "")
	for b.Loop() {
		executable, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		child := exec.Command(executable)
		child.Env = append(os.Environ(), childVariable+"=EGRESS_ALLOW=127.0.0.0/8:"+port)
		child.Stderr = os.Stderr
		stdin, _ := child.StdinPipe()
		stdout, _ := child.StdoutPipe()
		if err := child.Start(); err != nil {
			b.Fatal(err)
		}
		proxy, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		empty := resident(b, child.Process.Pid)
		conns := make([]net.Conn, 0, tunnels)
		for range tunnels {
			conn, r := open(b, strings.TrimSpace(proxy), authority)
			conns = append(conns, conn)
			io.WriteString(conn, greeting)
			if _, err := io.CopyN(io.Discard, r, int64(len(greeting))); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(empty, "empty-MB")
		b.ReportMetric(resident(b, child.Process.Pid), "rss-MB")
		for _, conn := range conns {
			reset(conn)
		}
		stdin.Close()
		if err := child.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

// resident returns VmRSS in megabytes of 10^6 bytes.
func resident(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kilobytes) * 1024 / 1e6
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

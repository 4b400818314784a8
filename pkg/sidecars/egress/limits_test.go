package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestConnectionLimit(t *testing.T) {
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	world.serve(publicAPI+":8443", echo(t, ""))
	b := run(t, world, "EGRESS_ALLOW=api.example.com:8443", "EGRESS_MAX_CONNECTIONS=3")
	var open []*client
	for range 3 {
		open = append(open, b.connect(t, "api.example.com:8443"))
	}
	for range 2 {
		surplus := b.dial(t)
		surplus.send(connect("api.example.com:8443"))
		response, body := surplus.response(http.MethodConnect)
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s %q", response.Status, body)
		}
		checkRefusal(t, response, body)
		surplus.ended()
	}
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("a full proxy is reported as broken: %v", err)
	}
	for _, line := range b.audit.wait(t, 2) {
		if line.Decision != decisionDeny || line.Rule != string(reasonConnections) || line.Kind != kindUnknown || line.Client == "" {
			t.Errorf("audit line %+v", line)
		}
	}
	// A place is free again after any end: of a tunnel, a refusal, a silence.
	open[0].Close()
	eventually(t, "a free place", func() bool { return b.metrics.open.Load() == 2 })
	open = append(open, b.connect(t, "api.example.com:8443"))
	open[1].Close()
	eventually(t, "a free place", func() bool { return b.metrics.open.Load() == 2 })
	refused := b.dial(t)
	refused.send("nonsense\r\n\r\n")
	refused.response(http.MethodGet)
	refused.Close()
	eventually(t, "a free place", func() bool { return b.metrics.open.Load() == 2 })
}

func TestHeaderTimeout(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {})
	b := run(t, world, "EGRESS_ALLOW=api.example.com", "EGRESS_HEADER_TIMEOUT=150ms")
	silent := b.dial(t)
	silent.ended() // no request, no answer, no audit line

	slow := b.dial(t)
	slow.send(get("http://api.example.com/"))
	slow.response(http.MethodGet)
	done := make(chan struct{})
	go func() { // a byte now and then does not extend the time
		defer close(done)
		for _, c := range []byte(get("http://api.example.com/")) {
			if _, err := slow.TCPConn.Write([]byte{c}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	if response, _ := slow.response(http.MethodGet); response.StatusCode != http.StatusRequestTimeout {
		t.Error(response.Status)
	}
	slow.Close()
	<-done
	if line := b.audit.wait(t, 2)[1]; line.Rule != string(reasonSlowHeader) {
		t.Errorf("audit line %+v", line)
	}
}

func TestHeaderLimit(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {})
	b := run(t, world, "EGRESS_ALLOW=api.example.com", "EGRESS_MAX_HEADER_BYTES=8192")
	for _, size := range []int{7 << 10, 9 << 10} {
		c := b.dial(t)
		c.send(get("http://api.example.com/", "X: "+strings.Repeat("x", size)))
		want := http.StatusOK
		if size > 8192 {
			want = http.StatusRequestHeaderFieldsTooLarge
		}
		if response, _ := c.response(http.MethodGet); response.StatusCode != want {
			t.Errorf("%d bytes: %s, want %d", size, response.Status, want)
		}
	}
}

// TestDrain: work goes on to its end, a quiet tunnel does not hold it up, and
// nothing new is taken.
func TestDrain(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-finish
		io.WriteString(w, "finished")
	})
	world.serve(publicAPI+":8443", echo(t, ""))
	b := run(t, world, "EGRESS_ALLOW=api.example.com,api.example.com:8443", "EGRESS_DRAIN_TIMEOUT=15s")
	quiet := b.connect(t, "api.example.com:8443")
	b.dial(t) // a connection that says nothing
	pending := b.dial(t)
	pending.send(get("http://api.example.com/"))
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- b.stop() }()
	quiet.ended()
	eventually(t, "the listener to close", func() bool {
		conn, err := net.Dial("tcp", b.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(finish)
	if response, body := pending.response(http.MethodGet); body != "finished" {
		t.Errorf("%s %q", response.Status, body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if lines := b.audit.lines(t); len(lines) != 2 {
		t.Errorf("%d audit lines, want 2:\n%s", len(lines), b.audit)
	}
	if err := b.Check(t.Context()); err == nil {
		t.Error("a stopped proxy is reported as working")
	}
}

// TestDrainIsBounded: what does not end is ended, and still audited.
func TestDrainIsBounded(t *testing.T) {
	entered := make(chan struct{})
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	world.serve(publicAPI+":8443", echo(t, ""))
	b := run(t, world, "EGRESS_ALLOW=api.example.com,api.example.com:8443", "EGRESS_DRAIN_TIMEOUT=300ms")
	busy := b.connect(t, "api.example.com:8443")
	go func() {
		for {
			if _, err := busy.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	pending := b.dial(t)
	pending.send(get("http://api.example.com/"))
	<-entered
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	if lines := b.audit.lines(t); len(lines) != 2 {
		t.Errorf("%d audit lines, want 2:\n%s", len(lines), b.audit)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "four") })
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	cfg := b.cfg
	cfg.MetricsListen = b.scrapes.Addr().String()
	if err := Check(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	if status(t, b, "http://api.example.com/") != 200 || status(t, b, "http://evil.example.net/") != 403 {
		t.Fatal("unexpected answers")
	}
	b.audit.wait(t, 2) // and none for the checks
	response, err := http.Get("http://" + cfg.MetricsListen + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	for _, want := range []string{
		"# HELP egress_requests_total ", "# TYPE egress_requests_total counter\n",
		`egress_requests_total{kind="http",decision="allow",reason=""} 1` + "\n",
		`egress_requests_total{kind="http",decision="deny",reason="no-rule"} 1` + "\n",
		`egress_bytes_total{direction="down"} 4` + "\n", `egress_bytes_total{direction="up"} 0` + "\n",
		"egress_lookups_total 1\n", "egress_connect_duration_seconds_count 1\n", "egress_connections_limit 1024\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %q:\n%s", want, text)
		}
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if Check(ctx, cfg) == nil {
		t.Error("a stopped proxy is reported as working")
	}
}

// TestProbeIsForTheContainerOnly: from any other address it is a request like
// others. 127.0.0.2 stands for the guest.
func TestProbeIsForTheContainerOnly(t *testing.T) {
	b := run(t, newInternet(t))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := d.Dial("tcp", b.addr)
	if err != nil {
		t.Skip("no second loopback address here:", err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: egress\r\n\r\n")
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("%q", answer)
	}
}

// TestAuditFailureClosesTheProxy, until a line can be written again.
func TestAuditFailureClosesTheProxy(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {})
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	const url = "http://api.example.com/"
	b.audit.setFail(errors.New("disk full"))
	if got := status(t, b, url); got != 200 {
		t.Fatal(got) // its line is the one that fails
	}
	eventually(t, "the failure", b.Proxy.audit.broken)
	if got := status(t, b, url); got != 503 {
		t.Errorf("%d with a broken audit log", got)
	}
	if b.Check(t.Context()) == nil {
		t.Error("a proxy with a broken audit log is reported as working")
	}
	b.audit.setFail(nil)
	if got := status(t, b, url); got != 503 {
		t.Errorf("%d before a line has been written", got)
	}
	if got := status(t, b, url); got != 200 {
		t.Errorf("%d after a line has been written", got)
	}
}

package egress

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// through returns an HTTP client that uses the proxy.
func (b *bottle) through(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: b.addr})}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// web is a world with one plain HTTP server, api.example.com.
func web(t testing.TB, handler http.HandlerFunc) *internet {
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	world.serve(publicAPI+":80", server(t, handler))
	return world
}

func TestPlainRequest(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s %q", r.Host, r.RequestURI, body)
	})
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	for _, method := range []string{"GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		request, _ := http.NewRequest(method, "http://api.example.com/a%2Fb?c=d&e", strings.NewReader("some body"))
		response, err := b.through(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if want := `api.example.com /a%2Fb?c=d&e "some body"`; response.StatusCode != http.StatusCreated || string(body) != want ||
			response.Header.Get("X-Method") != method {
			t.Errorf("%s: %s %q, want %q", method, response.Status, body, want)
		}
	}
	line := b.audit.wait(t, 7)[0]
	if line.Up != 9 || line.Down == 0 || line.Address != publicAPI || line.Rule != "api.example.com" ||
		line.Kind != kindHTTP || line.Decision != decisionAllow || line.Port != 80 {
		t.Errorf("audit line %+v", line)
	}
}

func TestRequestReachesTheServerInNormalForm(t *testing.T) {
	var got http.Header
	var host, uri string
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		got, host, uri = r.Header, r.Host, r.RequestURI
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "1")
		w.Header().Set("Keep-Alive", "timeout=1")
		w.Header().Set("Upgrade", "h2c")
		w.Header().Set("X-Public", "2")
	})
	b := run(t, world, "EGRESS_ALLOW=API.example.com.")
	c := b.dial(t)
	c.send(lines("GET HTTP://Api.EXAMPLE.com.:80/p?q HTTP/1.1", "Host: API.example.COM", "Accept: a", "Accept: b",
		"Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "Proxy-Connection: keep-alive",
		"Proxy-Authorization: Basic eDp5", "TE: trailers", "Trailer: X", "Upgrade: websocket", "HTTP2-Settings: AAMAAABkAAQ",
		"Authorization: Bearer z", "Accept-Encoding: br"))
	response, body := c.response(http.MethodGet)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", response.Status, body)
	}
	want := http.Header{
		"Accept": {"a", "b"}, "Authorization": {"Bearer z"}, "Accept-Encoding": {"br"}, "Via": {"1.1 egress"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header at the server (-want +got):\n%s", diff)
	}
	if host != "api.example.com" || uri != "/p?q" {
		t.Errorf("the server got %q for %q", uri, host)
	}
	for _, name := range []string{"X-Private", "Keep-Alive", "Upgrade"} {
		if v := response.Header.Get(name); v != "" {
			t.Errorf("%s: %s came back", name, v)
		}
	}
	if response.Header.Get("X-Public") != "2" {
		t.Error("X-Public did not come back")
	}
}

// TestOneNormalForm sends every accepted spelling of one target.
func TestOneNormalForm(t *testing.T) {
	world := newInternet(t)
	world.name("xn--bcher-kva.example", publicAPI)
	world.serve(publicAPI+":443", echo(t, "hi"))
	b := run(t, world, "EGRESS_ALLOW=BÜCHER.example", "EGRESS_TLS_SNI=off")
	for _, authority := range []string{
		"xn--bcher-kva.example:443", "XN--BCHER-KVA.EXAMPLE:443", "xn--bcher-kva.example.:443", "Xn--Bcher-Kva.Example.:443",
	} {
		b.connect(t, authority).Close()
	}
	for _, line := range b.audit.wait(t, 4) {
		if line.Host != "xn--bcher-kva.example" || line.Rule != "BÜCHER.example" || line.Decision != decisionAllow {
			t.Errorf("audit line %+v", line)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	c := b.dial(t)
	one := lines("POST http://api.example.com/ HTTP/1.1", "Host: api.example.com", "Content-Length: 3") + "one"
	two := lines("POST http://api.example.com/ HTTP/1.1", "Host: api.example.com", "Transfer-Encoding: chunked") +
		"2;x=y\r\ntw\r\n1\r\no\r\n0\r\nX-Trailer: z\r\n\r\n"
	three := get("http://api.example.com/")
	denied := get("http://evil.example.net/")
	// In pieces, then pipelined, with a refusal by policy in the middle.
	for _, piece := range []string{one[:10], one[10:80], one[80:], two, denied + one + "\r\n" + two + three} {
		c.send(piece)
	}
	for i, want := range []string{"one", "two", "", "one", "two", ""} {
		response, body := c.response(http.MethodGet)
		status := http.StatusOK
		if i == 2 {
			status, want = http.StatusForbidden, body
		}
		if response.StatusCode != status || body != want {
			t.Errorf("response %d: %s %q, want %d %q", i, response.Status, body, status, want)
		}
	}
	_, dials := world.seen()
	if len(dials) != 1 {
		t.Errorf("dialled %v, want one kept connection", dials)
	}
	b.audit.wait(t, 6)
}

func TestHTTP10(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "old") })
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	c := b.dial(t)
	c.send(lines("GET http://api.example.com/ HTTP/1.0"))
	if response, body := c.response(http.MethodGet); body != "old" {
		t.Errorf("%s %q", response.Status, body)
	}
	c.ended()
}

func TestHead(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "1234") })
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	response, err := b.through(t).Head("http://api.example.com/")
	if err != nil || response.ContentLength != 1234 {
		t.Errorf("%v, %v", response, err)
	}
}

func TestExpectContinue(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	c := b.dial(t)
	c.send(lines("POST http://api.example.com/ HTTP/1.1", "Host: api.example.com", "Content-Length: 4", "Expect: 100-continue"))
	if response, _ := c.response(http.MethodPost); response.StatusCode != http.StatusContinue {
		t.Fatalf("%s, want 100", response.Status)
	}
	c.send("data")
	if response, body := c.response(http.MethodPost); response.StatusCode != http.StatusOK || body != "data" {
		t.Errorf("%s %q", response.Status, body)
	}

	c = b.dial(t)
	c.send(lines("POST http://evil.example.net/ HTTP/1.1", "Host: evil.example.net", "Content-Length: 4", "Expect: 100-continue"))
	if response, _ := c.response(http.MethodPost); response.StatusCode != http.StatusForbidden {
		t.Errorf("%s, want 403 before the body", response.Status)
	}
}

func TestStreamsResponses(t *testing.T) {
	next := make(chan struct{})
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "event %d\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	response, err := b.through(t).Get("http://api.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(response.Body)
	for i := range 3 {
		// The server goes on only after the guest has seen the piece before.
		if line, err := reader.ReadString('\n'); line != fmt.Sprintf("event %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
		next <- struct{}{}
	}
}

func TestBrokenResponseIsNotMadeWhole(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	response, err := b.through(t).Get("http://api.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("%q came as a whole response", body)
	}
	if line := b.audit.wait(t, 1)[0]; line.Decision != decisionError || line.Rule != string(reasonResponse) {
		t.Errorf("audit line %+v", line)
	}
}

func TestServerFailures(t *testing.T) {
	raw := func(answer string) net.Addr {
		l := listen(t)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, answer)
				conn.Close()
			}
		}()
		return l.Addr()
	}
	world := newInternet(t)
	world.name("closed.example", "8.8.4.1")
	world.servers[mustAddrPort("8.8.4.1:80")] = "refused"
	world.name("noise.example", "8.8.4.2")
	world.serve("8.8.4.2:80", raw("noise\r\n\r\n"))
	world.name("switch.example", "8.8.4.3")
	world.serve("8.8.4.3:80", raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nx"))
	world.name("asks.example", "8.8.4.4")
	world.serve("8.8.4.4:80", raw("HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"))
	b := run(t, world, "EGRESS_ALLOW=*.example")
	for name, want := range map[string]string{
		"closed": "egress: cannot connect to closed.example:80: connection refused\n",
		"noise":  "egress: noise.example:80 gave no valid answer\n",
		"switch": "egress: switch.example:80 switched protocols without being asked\n",
		"asks":   "egress: asks.example:80 asks for proxy credentials\n",
		"absent": "egress: absent.example has no address\n",
	} {
		response, err := b.through(t).Get("http://" + name + ".example/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusBadGateway || string(body) != want {
			t.Errorf("%s: %s %q, want 502 %q", name, response.Status, body, want)
		}
	}
	for _, line := range b.audit.wait(t, 5) {
		if line.Decision != decisionError {
			t.Errorf("audit line %+v", line)
		}
	}
}

func TestTimeouts(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	cases := []struct {
		name, request string
		status        int
		rule          reason
		environ       string
		hang          bool
	}{
		{"server does not answer", get("http://api.example.com/"), 504, reasonTimeout, "EGRESS_IDLE_TIMEOUT=100ms", false},
		{"body does not go on", lines("POST http://api.example.com/ HTTP/1.1", "Host: api.example.com", "Content-Length: 4") + "da",
			408, reasonClient, "EGRESS_IDLE_TIMEOUT=200ms", false},
		{"address does not answer", get("http://api.example.com/"), 504, reasonTimeout, "EGRESS_CONNECT_TIMEOUT=100ms", true},
		{"address does not answer CONNECT", connect("api.example.com:443"), 504, reasonTimeout, "EGRESS_CONNECT_TIMEOUT=100ms", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := runConfig(t, world, func(cfg *Config) {
				if c.hang {
					cfg.network.dial = func(ctx context.Context, _ addrPort) (*net.TCPConn, error) {
						<-ctx.Done()
						return nil, os.ErrDeadlineExceeded
					}
				}
			}, "EGRESS_ALLOW=api.example.com", c.environ)
			conn := b.dial(t)
			conn.send(c.request)
			if response, body := conn.response(http.MethodGet); response.StatusCode != c.status {
				t.Errorf("%s %q, want %d", response.Status, body, c.status)
			}
			if line := b.audit.wait(t, 1)[0]; line.Decision != decisionError || line.Rule != string(c.rule) {
				t.Errorf("audit line %+v", line)
			}
		})
	}
}

func TestBigTransfers(t *testing.T) {
	const size = 32 << 20
	pattern := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		// The response begins long before the request has ended.
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	for _, length := range []int64{size, -1} {
		request, _ := http.NewRequest(http.MethodPost, "http://api.example.com/", bytes.NewReader(pattern))
		request.ContentLength = length
		response, err := b.through(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		if err != nil || !bytes.Equal(got, pattern) {
			t.Errorf("length %d: %d bytes came back unlike what was sent, %v", length, len(got), err)
		}
	}
	for _, line := range b.audit.wait(t, 2) {
		if line.Up != size || line.Down != size {
			t.Errorf("counted %d up and %d down, want %d", line.Up, line.Down, size)
		}
	}
}

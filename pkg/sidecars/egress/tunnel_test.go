package egress

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// secure is a world with a TLS server at api.example.com:443.
func secure(t testing.TB, handler http.HandlerFunc) (*internet, *httptest.Server) {
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	world.serve(publicAPI+":443", s.Listener.Addr())
	return world, s
}

func TestTLSThroughConnect(t *testing.T) {
	world, s := secure(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s", r.Host) })
	for _, mode := range []string{"enforce", "off"} {
		b := run(t, world, "EGRESS_ALLOW=api.example.com", "EGRESS_TLS_SNI="+mode)
		c := b.through(t)
		c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		response, err := c.Get("https://api.example.com/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if string(body) != "hello api.example.com" {
			t.Errorf("%q", body)
		}
		// The server's own certificate arrives: nothing was intercepted.
		if !response.TLS.PeerCertificates[0].Equal(s.Certificate()) {
			t.Error("the certificate is not the server's")
		}
		c.CloseIdleConnections()
		line := b.audit.wait(t, 1)[0]
		if line.Decision != decisionAllow || line.Kind != kindConnect || line.Up == 0 || line.Down == 0 || line.Address != publicAPI {
			t.Errorf("audit line %+v", line)
		}
	}
}

// TestServerNameSpellings: the ClientHello however it is spelled, cut up or
// sent early.
func TestServerNameSpellings(t *testing.T) {
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	world.serve(publicAPI+":443", echo(t, ""))
	world.serve(publicCDN+":443", echo(t, ""))
	b := run(t, world, "EGRESS_ALLOW=api.example.com,"+publicCDN, "EGRESS_TLS_ECH=allow")
	good := hello(t, "api.example.com")
	post := helloFor(t, &tls.Config{ServerName: "api.example.com", NextProtos: []string{strings.Repeat("x", 255), strings.Repeat("y", 255)}})
	cases := []struct {
		name, authority string
		pieces          []string
	}{
		{"whole", "api.example.com:443", []string{good}},
		{"mixed case", "api.example.com:443", []string{hello(t, "API.Example.COM")}},
		{"with data behind it", "api.example.com:443", []string{good + strings.Repeat("0-RTT", 2000)}},
		{"byte by byte", "api.example.com:443", strings.Split(good, "")},
		{"in records of one byte", "api.example.com:443", []string{fragment(good, 1)}},
		{"long", "api.example.com:443", []string{string(post)}},
		{"ECH, allowed", "api.example.com:443", []string{encryptedHello(t, "inner.example", "api.example.com")}},
		{"address without a name", publicCDN + ":443", []string{hello(t, "")}},
		{"address with an allowed name", publicCDN + ":443", []string{good}},
	}
	for _, c := range cases {
		for _, early := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, early %v", c.name, early), func(t *testing.T) {
				conn := b.dial(t)
				pieces := c.pieces
				if early {
					conn.send(connect(c.authority) + pieces[0])
					pieces = pieces[1:]
				} else {
					conn.send(connect(c.authority))
				}
				if response, body := conn.response(http.MethodConnect); response.StatusCode != http.StatusOK {
					t.Fatalf("%s %s", response.Status, body)
				}
				for _, piece := range pieces {
					conn.send(piece)
				}
				want := strings.Join(c.pieces, "")
				got := make([]byte, len(want))
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
					t.Errorf("%d bytes arrived unlike what was sent, %v", len(got), err)
				}
			})
		}
	}
}

func TestServerSpeaksFirst(t *testing.T) {
	world := newInternet(t)
	world.name("ssh.example.com", publicAPI)
	world.serve(publicAPI+":22", echo(t, "SSH-2.0-server\r\n"))
	b := run(t, world, "EGRESS_ALLOW=ssh.example.com:22")
	c := b.connect(t, "ssh.example.com:22")
	greeting := make([]byte, 16)
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "SSH-2.0-server\r\n" {
		t.Fatalf("%q, %v", greeting, err)
	}
	c.send("SSH-2.0-client\r\n")
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "SSH-2.0-client\r\n" {
		t.Fatalf("%q, %v", greeting, err)
	}
}

// TestWebSocketOverConnect: the upgrade happens inside the tunnel.
func TestWebSocketOverConnect(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			t.Errorf("the upgrade did not arrive: %v", r.Header)
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(conn, rw)
	})
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	c := b.connect(t, "api.example.com:80")
	c.send(lines("GET /socket HTTP/1.1", "Host: api.example.com", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"))
	if response, _ := c.response(http.MethodGet); response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(response.Status)
	}
	frame := "\x81\x85\x01\x02\x03\x04hello"
	c.send(frame)
	got := make([]byte, len(frame))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != frame {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTunnelHalfClose(t *testing.T) {
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	l := listen(t)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn) // until the client's end has arrived
		fmt.Fprintf(conn, "got %d bytes", len(all))
	}()
	world.serve(publicAPI+":8443", l.Addr())
	b := run(t, world, "EGRESS_ALLOW=api.example.com:8443")
	c := b.connect(t, "api.example.com:8443")
	c.send(strings.Repeat("x", 100_000))
	c.CloseWrite()
	answer, err := io.ReadAll(c)
	if string(answer) != "got 100000 bytes" {
		t.Errorf("%q, %v", answer, err)
	}
	line := b.audit.wait(t, 1)[0]
	if line.Up != 100_000 || line.Down != int64(len(answer)) {
		t.Errorf("audit line %+v", line)
	}
}

func TestBigTunnel(t *testing.T) {
	const size = 64 << 20
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	world.serve(publicAPI+":8443", echo(t, ""))
	b := run(t, world, "EGRESS_ALLOW=api.example.com:8443")
	c := b.connect(t, "api.example.com:8443")
	pattern := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		for range size / len(pattern) {
			c.Write(pattern)
		}
		c.CloseWrite()
	}()
	got := make([]byte, len(pattern))
	for i := range size / len(pattern) {
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, pattern) {
			t.Fatalf("megabyte %d came back changed, %v", i, err)
		}
	}
	c.ended()
	line := b.audit.wait(t, 1)[0]
	if line.Up != size || line.Down != size {
		t.Errorf("audit line %+v", line)
	}
}

func TestTunnelIdleTimeout(t *testing.T) {
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	world.serve(publicAPI+":8443", echo(t, ""))
	b := run(t, world, "EGRESS_ALLOW=api.example.com:8443", "EGRESS_IDLE_TIMEOUT=300ms")

	idle := b.connect(t, "api.example.com:8443")
	start := time.Now()
	idle.ended()
	if took := time.Since(start); took < 250*time.Millisecond {
		t.Errorf("closed after %v", took)
	}
	// One direction that moves keeps both open.
	busy := b.connect(t, "api.example.com:8443")
	start = time.Now()
	one := make([]byte, 1)
	for time.Since(start) < 900*time.Millisecond {
		busy.send("x")
		if _, err := busy.Read(one); err != nil {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	busy.ended()
	for _, line := range b.audit.wait(t, 2) {
		if line.Decision != decisionAllow {
			t.Errorf("audit line %+v", line)
		}
	}
}

// TestTunnelThatNeverSpeaks: on port 443 a guest has the header timeout.
func TestTunnelThatNeverSpeaks(t *testing.T) {
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	world.serve(publicAPI+":443", silent(t))
	b := run(t, world, "EGRESS_ALLOW=api.example.com", "EGRESS_HEADER_TIMEOUT=100ms")
	b.connect(t, "api.example.com:443").ended()
	if line := b.audit.wait(t, 1)[0]; line.Decision != decisionDeny || line.Rule != string(reasonNotTLS) {
		t.Errorf("audit line %+v", line)
	}
}

func TestAbortedTunnelEndsBothSides(t *testing.T) {
	world := newInternet(t)
	world.name("api.example.com", publicAPI)
	l := listen(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			accepted <- conn
		}
	}()
	world.serve(publicAPI+":8443", l.Addr())
	b := run(t, world, "EGRESS_ALLOW=api.example.com:8443")
	c := b.connect(t, "api.example.com:8443")
	c.SetLinger(0)
	c.Close() // a reset
	far := <-accepted
	defer far.Close()
	far.SetReadDeadline(time.Now().Add(patience))
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("data from nowhere")
	}
	b.audit.wait(t, 1)
	eventually(t, "the place to be free", func() bool { return b.metrics.open.Load() == 0 })
}

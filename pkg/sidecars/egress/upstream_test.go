package egress

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// upstreamProxy records what it is asked for and answers itself.
func upstreamProxy(t *testing.T, asked chan<- string) net.Addr {
	l := listen(t)
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:pa:ss"))
	serve := func(conn net.Conn) {
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for {
			request, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			asked <- request.Method + " " + request.RequestURI
			if request.Header.Get("Proxy-Authorization") != want {
				io.WriteString(conn, "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nContent-Length: 6\r\n\r\nsecret")
				continue
			}
			switch {
			case request.Host == "refused.example:443":
				io.WriteString(conn, "HTTP/1.1 403 x\r\nContent-Length: 6\r\n\r\nsecret")
			case request.Method == http.MethodConnect:
				// The target's first words come with the answer.
				io.WriteString(conn, "HTTP/1.1 200 fine\r\n\r\nfirst words, ")
				io.Copy(conn, reader)
				return
			default:
				body := "from upstream"
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			}
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr()
}

func TestUpstream(t *testing.T) {
	world := newInternet(t)
	asked := make(chan string, 16)
	addr := upstreamProxy(t, asked)
	b := run(t, world, "EGRESS_ALLOW=*.example,*.example:8443,10.0.0.0/8", "EGRESS_UPSTREAM=http://user:pa%3Ass@"+addr.String())

	for _, url := range []string{"http://a.example/x?y", "http://10.0.0.1/"} {
		response, err := b.through(t).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if got := <-asked; string(body) != "from upstream" || got != "GET "+url {
			t.Errorf("%q for %q", body, got)
		}
	}
	c := b.connect(t, "a.example:8443")
	if got := <-asked; got != "CONNECT a.example:8443" {
		t.Error(got)
	}
	c.send("echoed")
	c.CloseWrite()
	if all, err := io.ReadAll(c); string(all) != "first words, echoed" {
		t.Errorf("%q, %v", all, err)
	}

	// The rules are applied here, whatever the upstream would allow.
	for _, send := range []string{connect("evil.test:443"), get("http://evil.test/"), connect("192.168.0.1:443"), connect("127.1:443")} {
		c := b.dial(t)
		c.send(send)
		if response, _ := c.response(http.MethodGet); response.StatusCode/100 != 4 {
			t.Errorf("%q: %s", send, response.Status)
		}
	}
	c = b.dial(t)
	c.send(connect("refused.example:443"))
	response, body := c.response(http.MethodConnect)
	if response.StatusCode != http.StatusBadGateway || body != "egress: the upstream proxy answered 403 (EGRESS_UPSTREAM)\n" {
		t.Errorf("%s %q", response.Status, body)
	}
	if got := <-asked; got != "CONNECT refused.example:443" || len(asked) != 0 {
		t.Errorf("the upstream was asked for %q and %d more", got, len(asked))
	}
	// ClientHellos are checked on this side of the upstream.
	c = b.connect(t, "a.example:8443")
	first := make([]byte, len("first words, "))
	io.ReadFull(c, first)
	c.send(hello(t, "evil.test"))
	c.ended()

	lookups, dials := world.seen()
	if len(lookups)+len(dials) != 0 {
		t.Errorf("with an upstream, looked up %v and dialled %v", lookups, dials)
	}
	if text := b.audit.String() + b.log.String(); strings.Contains(text, "pa:ss") || strings.Contains(text, "pa%3Ass") {
		t.Errorf("the password was logged:\n%s", text)
	}
}

func TestUpstreamFailures(t *testing.T) {
	closed := listen(t)
	closed.Close()
	asked := make(chan string, 16)
	noise := listen(t)
	go func() {
		for {
			conn, err := noise.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "SSH-2.0-x\r\n\r\n")
			conn.Close()
		}
	}()
	for name, c := range map[string]struct{ upstream, connect, get string }{
		"nothing listens": {closed.Addr().String(),
			"egress: the upstream proxy cannot be reached: connection refused (EGRESS_UPSTREAM)\n",
			"egress: the upstream proxy cannot be reached or gave no valid answer (EGRESS_UPSTREAM)\n"},
		"wrong password": {"user:wrong@" + upstreamProxy(t, asked).String(),
			"egress: the upstream proxy answered 407 (EGRESS_UPSTREAM)\n",
			"egress: the upstream proxy asks for proxy credentials\n"},
		"not a proxy": {noise.Addr().String(),
			"egress: the upstream proxy gave no answer that could be understood (EGRESS_UPSTREAM)\n",
			"egress: the upstream proxy cannot be reached or gave no valid answer (EGRESS_UPSTREAM)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := run(t, newInternet(t), "EGRESS_ALLOW=*.example", "EGRESS_UPSTREAM=http://"+c.upstream)
			for send, want := range map[string]string{connect("a.example:443"): c.connect, get("http://a.example/"): c.get} {
				conn := b.dial(t)
				conn.send(send)
				if response, body := conn.response(http.MethodGet); response.StatusCode != http.StatusBadGateway || body != want {
					t.Errorf("%s %q, want 502 %q", response.Status, body, want)
				}
			}
			for _, line := range b.audit.wait(t, 2) {
				if line.Decision != decisionError || line.Rule != string(reasonUpstream) {
					t.Errorf("audit line %+v", line)
				}
			}
		})
	}
}

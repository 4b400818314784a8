package egress

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// FuzzVetHead: what the vetting lets through, net/http understands in the same
// way: same method, same target, same host, same end of the body.
func FuzzVetHead(f *testing.F) {
	for _, seed := range []string{
		get("http://api.example.com/x?y"), connect("api.example.com:443"), connect("[2001:db8::1]:443"),
		lines("POST http://a.example/ HTTP/1.1", "Host: a.example", "Content-Length: 5"),
		lines("POST http://a.example/ HTTP/1.1", "Host: a.example:80", "Transfer-Encoding: chunked", "Expect: 100-continue"),
		lines("GET http://a.example/ HTTP/1.0"), "GET / HTTP/1.1\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		end := bytes.Index(block, []byte("\r\n\r\n"))
		if end < 0 {
			return
		}
		block = block[:end+4]
		h, refused := vetHead(block)
		if refused != nil {
			if strings.Contains(refused.text, "\n") {
				t.Errorf("the refusal is not one line: %q", refused.text)
			}
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(block)))
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", block, err)
		}
		if r.Method != h.method || r.RequestURI != h.uri || r.ContentLength != h.length {
			t.Errorf("%q: vetted as %+v, read as %s %s with %d bytes", block, h, r.Method, r.RequestURI, r.ContentLength)
		}
		if (h.length < 0) != (len(r.TransferEncoding) > 0) {
			t.Errorf("%q: vetted length %d, read Transfer-Encoding %q", block, h.length, r.TransferEncoding)
		}
		if !h.isConnect() && (r.URL.Scheme != "http" || r.URL.User != nil) {
			t.Errorf("%q: read as %+v", block, r.URL)
		}
		if again, err := parseAuthority(r.URL.Host, 80); err != nil || again != h.target {
			t.Errorf("%q: vetted for %v, read for %q", block, h.target, r.URL.Host)
		}
	})
}

// FuzzBodyFollower: where the follower sees the end of a chunked body, net/http
// sees it too, however the bytes are cut.
func FuzzBodyFollower(f *testing.F) {
	f.Add([]byte("4\r\ndata\r\n0\r\n\r\nrest"), uint8(3))
	f.Add([]byte("4;x=y\r\ndata\r\n0\r\nA: b\r\n\r\n"), uint8(1))
	f.Add([]byte("a\r\n0123456789\r\n00\r\n\r\n"), uint8(200))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		follower := newBodyFollower(-1)
		used := 0
		for used < len(stream) && !follower.done() {
			piece := stream[used:min(used+int(size)+1, len(stream))]
			n, refused := follower.consume(piece)
			if refused != nil {
				return
			}
			if n == 0 {
				t.Fatalf("no progress at %d of %q", used, stream)
			}
			used += n
		}
		if !follower.done() {
			return
		}
		reader := bufio.NewReader(io.MultiReader(
			strings.NewReader(lines("POST http://a/ HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")), bytes.NewReader(stream)))
		r, err := http.ReadRequest(reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatalf("net/http refuses the body %q: %v", stream[:used], err)
		}
		if rest, _ := io.ReadAll(reader); !bytes.Equal(rest, stream[used:]) {
			t.Errorf("%q: the follower ends at %d, net/http leaves %q", stream, used, rest)
		}
	})
}

// TestVettedConnCutAnywhere: the same stream gives the same requests in pieces
// of any size, read with buffers of any size.
func TestVettedConnCutAnywhere(t *testing.T) {
	stream := get("http://a.example/1") +
		"\r\n" + lines("POST http://a.example/2 HTTP/1.1", "Host: a.example", "Content-Length: 11") + "hello\r\n\r\nxx" +
		lines("POST http://a.example/3 HTTP/1.1", "Host: a.example", "Transfer-Encoding: chunked") + "5\r\nab\r\nc\r\n1\r\nx\r\n0\r\nT: u\r\n\r\n" +
		connect("b.example:443") + "\x16\x03\x01 tunnel bytes \r\n\r\n GET http://c.example/ HTTP/1.1\r\n\r\n"
	// The one empty line before a request is left out.
	want := strings.Replace(stream, "\r\n\r\n\r\nPOST http://a.example/2", "\r\n\r\nPOST http://a.example/2", 1)
	for _, piece := range []int{1, 2, 3, 7, 64, 1 << 16} {
		for _, read := range []int{1, 5, 1 << 12} {
			near, far := tcpPair(t)
			go func() {
				for rest := stream; rest != ""; {
					n := min(piece, len(rest))
					io.WriteString(far, rest[:n])
					rest = rest[n:]
				}
				far.CloseWrite()
			}()
			c := newVettedConn(near, connLimits{1 << 16, time.Minute, time.Minute}, func([]vetted) {})
			var source io.Reader = c
			if read == 1 {
				source = iotest.OneByteReader(c)
			}
			var got bytes.Buffer
			if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{source}, make([]byte, read)); err != nil {
				t.Fatal(err)
			}
			if got.String() != want {
				t.Fatalf("pieces of %d, reads of %d:\n%q, want\n%q", piece, read, got.String(), want)
			}
			for _, uri := range []string{"http://a.example/1", "http://a.example/2", "http://a.example/3", "b.example:443"} {
				if v, ok := c.next(); !ok || v.refusal != nil || v.head.uri != uri {
					t.Errorf("pieces of %d, reads of %d: %+v instead of %s", piece, read, v, uri)
				}
			}
			if v, ok := c.next(); ok {
				t.Errorf("one more: %+v", v)
			}
		}
	}
}

// tcpPair returns two ends of a loopback connection.
func tcpPair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l := listen(t)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	return other.(*net.TCPConn), conn.(*net.TCPConn)
}

package egress

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestNothingSecretIsRecorded puts a secret into every place of a request that
// a guest can fill, for requests that are allowed, refused by policy, refused
// as malformed and failing.
func TestNothingSecretIsRecorded(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	world.serve(publicAPI+":443", echo(t, ""))
	world.name("down.example.com", "8.8.4.1")
	world.servers[mustAddrPort("8.8.4.1:80")] = "refused"
	world.servers[mustAddrPort("8.8.4.1:443")] = "refused"
	b := run(t, world, "EGRESS_ALLOW=api.example.com,down.example.com")
	const secret = "s3cret"
	fields := []string{"Authorization: Bearer " + secret, "Proxy-Authorization: Basic " + secret, "Cookie: a=" + secret,
		"X-" + secret + ": " + secret, "Referer: http://x/" + secret, "Content-Length: 6"}
	requests := []string{}
	for _, name := range []string{"api.example.com", "evil.example.net", "down.example.com"} {
		url := "http://" + name + "/" + secret + "?token=" + secret
		requests = append(requests,
			get(url, fields...)+secret,
			get("http://user:"+secret+"@"+name+"/", fields...)+secret,
			get("http://"+secret+"@"+name+"/"),
			get("https://"+name+"/"+secret),
			get(url, append(fields, "Bad Header: "+secret)...),
			get(url, "Host: "+secret),
			lines("GET http://"+name+"/ HTTP/1.1", "Host: "+secret+"@"+name),
			lines("POST "+url+" HTTP/1.1", "Host: "+name, "Transfer-Encoding: chunked")+secret+"\r\n",
			"CONNECT "+secret+"@"+name+":443 HTTP/1.1\r\nHost: "+name+"\r\n\r\n",
			"CONNECT "+name+":443 HTTP/1.1\r\nHost: "+name+":443\r\nProxy-Authorization: Basic "+secret+"\r\n\r\n"+secret+"\r\n",
			lines("GET /"+secret+" HTTP/1.1", "Host: "+name),
			secret+" http://"+name+"/ HTTP/1.1\r\n\r\n",
		)
	}
	for _, send := range requests {
		c := b.dial(t)
		c.send(send)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}
	b.audit.wait(t, len(requests))
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	for what, text := range map[string]string{
		"audit": b.audit.String(), "log": b.log.String(), "metrics": string(b.metrics.text()),
	} {
		if strings.Contains(strings.ToLower(text), secret) {
			t.Errorf("the %s has the secret:\n%s", what, text)
		}
	}
}

func TestAuditLineForm(t *testing.T) {
	buffer := &auditBuffer{}
	l := &auditLog{w: buffer}
	zone := time.FixedZone("elsewhere", 3600)
	err := l.write(auditLine{
		Time: time.Date(2030, 2, 3, 4, 5, 6, 7, zone), Decision: decisionDeny, Rule: string(reasonHost), Kind: kindConnect,
		Host: "a\n\"b\x00" + strings.Repeat("c", 1000), Port: 443, Client: "192.0.2.1:5", DurationMS: 1.5,
	})
	if err != nil {
		t.Fatal(err)
	}
	text := buffer.String()
	if strings.Count(text, "\n") != 1 || len(text) > 700 {
		t.Errorf("not one line of bounded length: %q", text)
	}
	if !strings.HasPrefix(text, `{"time":"2030-02-03T03:05:06.000000007Z","decision":"deny","rule":"invalid-host","kind":"connect","host":"a\n\"b\u0000ccc`) {
		t.Errorf("%s", text)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil || fields["duration_ms"] != 1.5 || fields["port"] != 443.0 {
		t.Errorf("%v, %v", fields, err)
	}
}

// blockedWriter makes its writers wait.
type blockedWriter struct {
	auditBuffer
	open chan struct{}
}

func (w *blockedWriter) Write(p []byte) (int, error) {
	<-w.open
	return w.auditBuffer.Write(p)
}

// TestSlowAuditLosesNothing: requests wait for the writer.
func TestSlowAuditLosesNothing(t *testing.T) {
	w := &blockedWriter{open: make(chan struct{})}
	world := web(t, func(w http.ResponseWriter, r *http.Request) {})
	b := run(t, world)
	b.Proxy.audit.w = w
	const n = 20
	answered := make(chan int, n)
	for range n {
		go func() { answered <- status(t, b, "http://evil.example.net/") }()
	}
	eventually(t, "all requests to wait", func() bool { return len(b.open()) == n })
	if len(answered) > 0 {
		t.Error("a request was answered before its audit line was written")
	}
	close(w.open)
	for range n {
		if got := <-answered; got != 403 {
			t.Error(got)
		}
	}
	w.wait(t, n)
}

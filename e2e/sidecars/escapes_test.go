//go:build e2e && unix

package sidecars

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// escape is one attempt of a guest to get past egress.
type escape struct {
	name   string
	send   string // what the guest writes
	want   []int  // status of each response
	rule   string // of the audit line with the denial
	then   string // sent after a tunnel was opened, which has to be closed upon it
	before int    // audit lines of what was allowed on the connection
}

// escapeRules is the allowlist that the attempts are made against. Behind the bundle are a
// server, the only address that is allowed, and a trap, which has all names but the server's.
func escapeRules(server string) string {
	return strings.Join([]string{"api.example.com", "*.wild.example", "ssh.example.com:22", "0.0.0.0/0:9999", server + "/32"}, ",")
}

// trapNames lead to the trap, unless something checks them.
var trapNames = []string{
	"evil.example.net", "example.com", "x.api.example.com", "wild.example", "a.wild.example", "b.wild.example",
	"evilwild.example", "api.example.com.evil.example.net", "xapi.example.com", "ssh.example.com", "metadata.google.internal",
}

// trapPorts are where it listens.
var trapPorts = []string{"22", "80", "443", "8080", "9999"}

func escapes(t *testing.T, server, trap, bundle string) []escape {
	return slices.Concat(otherHosts(), otherSpellings(), otherAddresses(server, trap, bundle), otherForms(),
		twoHosts(), ambiguous(), secondRequests(), otherServerNames(t))
}

func refused(status int, rule, name, send string) escape {
	return escape{name: name, send: send, want: []int{status}, rule: rule}
}

// otherHosts: well-formed requests to where no rule leads, or only a name's.
func otherHosts() []escape {
	var table []escape
	for _, authority := range []string{
		"evil.example.net:443", "c2VjcmV0.evil.example.net:443", "example.com:443", "x.api.example.com:443",
		"wild.example:443", "evilwild.example:443", "api.example.com.evil.example.net:443", "xapi.example.com:443",
		"api.example.com:8080", "api.example.com:22", "ssh.example.com:443", "a.wild.example:8080", "localhost:443",
		"metadata.google.internal:80", "host.docker.internal:80", "api_example.com:443",
	} {
		table = append(table, refused(403, "no-rule", "CONNECT "+authority, connect(authority)))
	}
	for _, url := range []string{
		"http://evil.example.net/", "http://example.com/", "http://api.example.com:8080/", "http://localhost:9090/metrics",
		"http://metadata.google.internal/computeMetadata/v1/",
	} {
		table = append(table, refused(403, "no-rule", "GET "+url, get(url)))
	}
	return append(table,
		refused(403, "address", "allowed name of a private address", connect("a.wild.example:443")),
		refused(403, "address", "allowed name of a private address, plain", get("http://b.wild.example/")),
		refused(403, "address", "allowed name and port of a private address", connect("ssh.example.com:22")))
}

// otherSpellings: other ways to write a host, an address or a port.
func otherSpellings() []escape {
	var table []escape
	for _, authority := range []string{
		"2130706433:443", "0177.0.0.1:443", "0x7f.0.0.1:443", "0x7f000001:443", "127.1:443", "127.000.000.001:443",
		"127.0.0.1.:443", "0:443", "[fe80::1%eth0]:443", "::1:443", "[127.0.0.1]:443", "[api.example.com]:443",
		"api.example.com@evil.example.net:443", "api.example.com:443:22", "api.example.com", "api.example.com:",
		"api.example.com:0", "api.example.com:65979", "api.example.com:0443", "api.example.com:+443",
		"api..example.com:443", "api.example.com..:443", ".example.com:443", "api%2eexample.com:443",
		"api.example.com%00.evil.example.net:443", "api.example.com,evil.example.net:443", "*.wild.example:443",
		"evil.example.net:22/api.example.com:443", "http://api.example.com:443",
	} {
		table = append(table, refused(400, "invalid-host", "CONNECT "+authority, connect(authority)))
	}
	for _, url := range []string{
		"http://api.example.com@evil.example.net/", "http://api.example.com:80@evil.example.net/",
		`http://api.example.com\@evil.example.net/`, "http://2852039166/latest/meta-data/", "http:///",
	} {
		table = append(table, refused(400, "invalid-host", "GET "+url, get(url)))
	}
	return table
}

// otherAddresses: requests that name an address themselves.
func otherAddresses(server, trap, bundle string) []escape {
	var table []escape
	for _, authority := range []string{
		trap + ":443", trap + ":9999", server + ":22", bundle + ":3128", bundle + ":9999", "127.0.0.1:9090", "127.0.0.1:9999",
		"169.254.169.254:80", "169.254.169.254:9999", "10.0.0.1:9999", "100.64.0.1:9999", "224.0.0.1:9999", "0.0.0.0:9999",
		"255.255.255.255:9999", "[::1]:9090", "[::ffff:127.0.0.1]:9090", "[::ffff:" + trap + "]:9999", "[fd00:ec2::254]:80",
		"[2002:7f00:1::]:443", "[64:ff9b::7f00:1]:443",
	} {
		table = append(table, refused(403, "no-rule", "CONNECT "+authority, connect(authority)))
	}
	return table
}

// otherForms: what is no request to a forward proxy.
func otherForms() []escape {
	form := func(rule string, status int, l ...string) escape {
		return refused(status, rule, l[0], lines(l...))
	}
	return []escape{
		form("not-a-proxy-request", 400, "GET / HTTP/1.1", "Host: api.example.com"),
		form("not-a-proxy-request", 400, "GET //evil.example.net/ HTTP/1.1", "Host: api.example.com"),
		form("not-a-proxy-request", 400, "OPTIONS * HTTP/1.1", "Host: api.example.com"),
		form("scheme", 400, "GET https://api.example.com/ HTTP/1.1", "Host: api.example.com"),
		form("scheme", 400, "GET ftp://api.example.com/ HTTP/1.1", "Host: api.example.com"),
		form("scheme", 400, "GET file:///etc/passwd HTTP/1.1", "Host: api.example.com"),
		form("method", 405, "TRACE http://api.example.com/ HTTP/1.1", "Host: api.example.com"),
		refused(400, "malformed-request", "SOCKS5", "\x05\x01\x00"),
		refused(400, "malformed-request", "TLS to the proxy", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"),
		refused(400, "malformed-request", "PROXY protocol", "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"+connect("evil.example.net:443")),
		refused(400, "malformed-request", "HTTP/0.9", "GET http://api.example.com/\r\n\r\n"),
		refused(505, "malformed-request", "HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	}
}

// twoHosts: two answers to the question who is asked for.
func twoHosts() []escape {
	var table []escape
	for _, host := range []string{"evil.example.net", "api.example.com:8080", "x.api.example.com", "api.example.com@evil.example.net", ""} {
		table = append(table, refused(400, "host-mismatch", "Host: "+host, lines("GET http://api.example.com/ HTTP/1.1", "Host: "+host)))
	}
	return append(table,
		refused(400, "host-mismatch", "other Host in CONNECT", lines("CONNECT api.example.com:443 HTTP/1.1", "Host: evil.example.net:443")),
		refused(400, "malformed-request", "two Host fields", lines("GET http://api.example.com/ HTTP/1.1", "Host: api.example.com", "Host: evil.example.net")),
		refused(400, "malformed-request", "no Host", lines("GET http://api.example.com/ HTTP/1.1")))
}

// ambiguous: messages whose end two readers could see differently, with a request to
// another host in what one of them takes for a body.
func ambiguous() []escape {
	const start = "POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n"
	hidden := "0\r\n\r\n" + get("http://evil.example.net/")
	var table []escape
	for name, fields := range map[string][]string{
		"CL.TE":                {"Content-Length: 5", "Transfer-Encoding: chunked"},
		"TE.CL":                {"Transfer-Encoding: chunked", "Content-Length: 5"},
		"two lengths":          {"Content-Length: 5", "Content-Length: 0"},
		"list of lengths":      {"Content-Length: 5, 5"},
		"signed length":        {"Content-Length: +5"},
		"hexadecimal length":   {"Content-Length: 0x5"},
		"chunked twice":        {"Transfer-Encoding: chunked, chunked"},
		"chunked and identity": {"Transfer-Encoding: chunked", "Transfer-Encoding: identity"},
		"unknown coding":       {"Transfer-Encoding: xchunked"},
	} {
		table = append(table, refused(400, "ambiguous-framing", name, start+lines(fields...)+hidden))
	}
	for name, field := range map[string]string{
		"space before the colon": "Transfer-Encoding : chunked",
		"folded line":            "X: a\r\n Transfer-Encoding: chunked",
		"bare CR":                "X: a\rTransfer-Encoding: chunked",
		"bare LF":                "X: a\nTransfer-Encoding: chunked",
		"NUL in a name":          "Transfer\x00-Encoding: chunked",
	} {
		table = append(table, refused(400, "malformed-request", name, start+lines(field)+hidden))
	}
	slices.SortFunc(table, func(a, b escape) int { return strings.Compare(a.name, b.name) })
	return table
}

// secondRequests: what follows on a connection that began well.
func secondRequests() []escape {
	fine := get("http://api.example.com/fine")
	second := func(status int, rule, name, send string) escape {
		return escape{name: name, send: fine + send, want: []int{200, status}, rule: rule, before: 1}
	}
	return []escape{
		second(403, "no-rule", "another host second", get("http://evil.example.net/")),
		second(403, "no-rule", "CONNECT to another host second", connect("evil.example.net:443")),
		second(400, "not-a-proxy-request", "origin form second", lines("GET / HTTP/1.1", "Host: evil.example.net")),
		second(400, "host-mismatch", "other Host second", lines("GET http://api.example.com/ HTTP/1.1", "Host: evil.example.net")),
	}
}

// otherServerNames: what comes through a tunnel to the allowed host.
func otherServerNames(t *testing.T) []escape {
	tunnel := connect("api.example.com:443")
	through := func(rule, name, then string) escape {
		return escape{name: name, send: tunnel, want: []int{200}, then: then, rule: rule}
	}
	return []escape{
		through("server-name", "other server name", clientHello(t, "evil.example.net")),
		through("server-name", "server name below the host", clientHello(t, "x.api.example.com")),
		through("server-name", "server name of another rule", clientHello(t, "a.wild.example")),
		through("server-name", "no server name", clientHello(t, "")),
		through("not-tls", "plain HTTP on 443", get("http://evil.example.net/")),
		through("not-tls", "SSH on 443", "SSH-2.0-OpenSSH_9.9\r\n"),
	}
}

// clientHello is the first that a client sends which asks for a name.
func clientHello(t *testing.T, name string) string {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() // fails: nobody answers
	}()
	defer server.Close()
	record := make([]byte, 5)
	if _, err := io.ReadFull(server, record); err != nil {
		t.Fatal(err)
	}
	record = append(record, make([]byte, int(record[3])<<8|int(record[4]))...)
	if _, err := io.ReadFull(server, record[5:]); err != nil {
		t.Fatal(err)
	}
	return string(record)
}

func connect(authority string) string {
	return lines("CONNECT "+authority+" HTTP/1.1", "Host: "+authority)
}

func get(url string) string {
	authority, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return lines("GET "+url+" HTTP/1.1", "Host: "+authority)
}

// lines makes a header block.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

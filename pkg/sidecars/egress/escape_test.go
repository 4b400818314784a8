package egress

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// escape is one attempt to get past the proxy.
type escape struct {
	name string
	// send is what the guest writes; in it, {trap} stands for the address of a
	// server on loopback that must never be reached.
	send string
	// want is the status of each response; tunnel openings are 200.
	want []int
	// reason is the audit line's rule.
	reason reason
	// then is sent after the last response, a 200 to CONNECT, and must get the
	// connection closed without a byte reaching the target.
	then string
	// lookups is what may be resolved. Nothing else is, and what is not listed
	// in dials is not dialled.
	lookups []string
	dials   []string
}

const (
	publicAPI = "93.184.216.34" // api.example.com and its neighbours
	publicCDN = "151.101.1.6"   // an address of the range rule
)

// escapeRules is the allowlist that the attempts are made against.
const escapeRules = "EGRESS_ALLOW=api.example.com, *.wild.example, *.rebind.example, ssh.example.com:22, " +
	"alt.example.com:8443, xn--bcher-kva.example, 151.101.0.0/16, 64:ff9b::/96, 0.0.0.0/0:9999"

// TestEscapes is the boundary: everything in the table is tried and refused.
func TestEscapes(t *testing.T) {
	world := newInternet(t)
	// Every other name has an address too, so that only the rules stand
	// between the guest and it.
	for _, name := range []string{
		"api.example.com", "ssh.example.com", "alt.example.com", "a.wild.example",
		"wild.example", "evil.example.net", "example.com", "api.example.com.evil.example.net",
	} {
		world.name(name, publicAPI)
	}
	quiet := silent(t)
	for _, port := range []string{"443", "22", "8443"} {
		world.serve(publicAPI+":"+port, quiet)
		world.serve(publicCDN+":"+port, quiet)
	}
	world.serve(publicAPI+":80", server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/fine" {
			t.Errorf("the server got %s %s", r.Method, r.URL)
		}
	}))
	for name, address := range rebindings {
		world.name(name+".rebind.example", address)
	}
	world.name("mixed.rebind.example", "10.0.0.5", "169.254.169.254")

	table := slices.Concat(notAllowed(), spellings(), addresses(), rebound(), forms(),
		mismatches(), smuggling(), pipelined(), serverNames(t))
	if len(table) < 90 {
		t.Errorf("only %d attempts", len(table))
	}
	names := map[string]bool{}
	for _, e := range table {
		if names[e.name] {
			t.Errorf("two attempts are called %q", e.name)
		}
		names[e.name] = true
		t.Run(e.name, func(t *testing.T) { attempt(t, world, e) })
	}
}

func attempt(t *testing.T, world *internet, e escape) {
	world.seen()
	b := run(t, world, escapeRules, "EGRESS_HEADER_TIMEOUT=2s")
	c := b.dial(t)
	c.send(strings.ReplaceAll(e.send, "{trap}", world.trap.Addr().String()))
	method, _, _ := strings.Cut(e.send, " ")
	for i, want := range e.want {
		if i > 0 {
			method = http.MethodGet
		}
		response, body := c.response(method)
		if response.StatusCode != want {
			t.Errorf("response %d: %s %q, want %d", i, response.Status, body, want)
		}
		if want >= 400 {
			checkRefusal(t, response, body)
		}
	}
	if e.then != "" {
		c.send(e.then)
		c.ended()
	} else if last := e.want[len(e.want)-1]; last != http.StatusForbidden || method == http.MethodConnect {
		c.ended()
	}
	c.Close()
	eventually(t, "the exchanges to end", func() bool { return len(b.open()) == 0 })

	denied := 0
	for _, line := range b.audit.lines(t) {
		if line.Decision == decisionDeny {
			denied++
			if line.Rule != string(e.reason) {
				t.Errorf("audited as %q, want %q", line.Rule, e.reason)
			}
		}
	}
	if denied != 1 {
		t.Errorf("%d audit lines with a denial, want 1:\n%s", denied, b.audit)
	}
	lookups, dials := world.seen()
	if !slices.Equal(lookups, e.lookups) {
		t.Errorf("looked up %q, want %q", lookups, e.lookups)
	}
	var dialled []string
	for _, d := range dials {
		dialled = append(dialled, d.String())
	}
	if !slices.Equal(dialled, e.dials) {
		t.Errorf("dialled %q, want %q", dialled, e.dials)
	}
}

// checkRefusal wants one plain sentence.
func checkRefusal(t *testing.T, response *http.Response, body string) {
	t.Helper()
	if !strings.HasPrefix(body, "egress: ") || strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "\n") {
		t.Errorf("refused with %q, want one line that begins with egress:", body)
	}
	if got := response.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("refused with Content-Type %q", got)
	}
}

func only(status int) []int { return []int{status} }

// notAllowed: well-formed requests to where no rule leads.
func notAllowed() []escape {
	no := func(name, send string) escape {
		return escape{name: name, send: send, want: only(403), reason: reasonNoRule}
	}
	return []escape{
		no("CONNECT to another host", connect("evil.example.net:443")),
		no("GET from another host", get("http://evil.example.net/")),
		no("POST to another host", lines("POST http://evil.example.net/ HTTP/1.1", "Host: evil.example.net", "Content-Length: 4")+"data"),
		no("data in a DNS label of another zone", connect("c2VjcmV0.evil.example.net:443")),
		no("parent domain of a rule", connect("example.com:443")),
		no("below an exact rule", connect("x.api.example.com:443")),
		no("apex of a wildcard", connect("wild.example:443")),
		no("suffix without the dot", connect("evilwild.example:443")),
		no("rule as a prefix", connect("api.example.com.evil.example.net:443")),
		no("rule inside a longer label", connect("xapi.example.com:443")),
		no("port beside the default ones", connect("api.example.com:8080")),
		no("port beside the default ones, plain", get("http://api.example.com:8080/")),
		no("SSH to a web host", connect("api.example.com:22")),
		no("default port of a rule with a port", connect("ssh.example.com:443")),
		no("plain HTTP to a rule with a port", get("http://ssh.example.com/")),
		no("other port under a wildcard", connect("a.wild.example:444")),
		no("localhost", get("http://localhost/")),
		no("Docker's name of the host", connect("host.docker.internal:443")),
		no("single label", connect("metadata:80")),
		no("cloud metadata by name", get("http://metadata.google.internal/computeMetadata/v1/")),
		no("underscore neighbour", connect("api_example.com:443")),
		no("other punycode name", connect("xn--bcher-lva.example:443")),
		no("wildcard itself", connect("x.wild.example.evil.example.net:443")),
	}
}

// spellings: other ways to write a host, an address or a port.
func spellings() []escape {
	odd := func(name, authority string) escape {
		return escape{name: name, send: connect(authority), want: only(400), reason: reasonHost}
	}
	plain := func(name, url string) escape {
		return escape{name: name, send: get(url), want: only(400), reason: reasonHost}
	}
	return []escape{
		odd("decimal address", "2130706433:443"),
		odd("octal address", "0177.0.0.1:443"),
		odd("hexadecimal address", "0x7f.0.0.1:443"),
		odd("hexadecimal address in one piece", "0x7f000001:443"),
		odd("short address", "127.1:443"),
		odd("short address of three parts", "127.0.1:443"),
		odd("five parts", "127.0.0.0.1:443"),
		odd("part above 255", "127.0.0.256:443"),
		odd("leading zeros", "127.000.000.001:443"),
		odd("address with a trailing dot", "127.0.0.1.:443"),
		odd("zero", "0:443"),
		odd("name that ends in a number", "api.example.com.1:443"),
		odd("name that ends in a hexadecimal number", "api.example.0x7f:443"),
		odd("zone identifier", "[fe80::1%eth0]:443"),
		odd("zone identifier, encoded", "[fe80::1%25eth0]:443"),
		odd("IPv6 without brackets", "::1:443"),
		odd("IPv4 in brackets", "[127.0.0.1]:443"),
		odd("name in brackets", "[api.example.com]:443"),
		odd("bracket not closed", "[::1:443"),
		odd("text after the bracket", "[2001:4860:4860::8888]x:443"),
		odd("userinfo in CONNECT", "api.example.com@evil.example.net:443"),
		odd("two ports", "api.example.com:443:22"),
		odd("no port in CONNECT", "api.example.com"),
		odd("empty port in CONNECT", "api.example.com:"),
		odd("port zero", "api.example.com:0"),
		odd("port above 65535", "api.example.com:65979"),
		odd("port with a leading zero", "api.example.com:0443"),
		odd("port with a sign", "api.example.com:+443"),
		odd("port by name", "api.example.com:https"),
		odd("empty label", "api..example.com:443"),
		odd("two trailing dots", "api.example.com..:443"),
		odd("leading dot", ".example.com:443"),
		odd("only a dot", ".:443"),
		odd("percent-encoded dot", "api%2eexample.com:443"),
		odd("percent-encoded NUL", "api.example.com%00.evil.example.net:443"),
		odd("semicolon", "api.example.com;evil.example.net:443"),
		odd("comma", "api.example.com,evil.example.net:443"),
		odd("wildcard character", "*.wild.example:443"),
		odd("slash in CONNECT", "evil.example.net:22/api.example.com:443"),
		odd("URL in CONNECT", "http://api.example.com:443"),
		odd("label of 64 bytes", strings.Repeat("a", 64)+".wild.example:443"),
		odd("name of 300 bytes", strings.Repeat("a.", 150)+"wild.example:443"),
		odd("punycode of plain ASCII", "xn--api-.example.com:443"),
		odd("punycode that decodes to nothing valid", "xn--a-ecp.wild.example:443"),
		odd("hyphen at the end of a label", "api-.wild.example:443"),
		plain("userinfo in a URL", "http://api.example.com@evil.example.net/"),
		plain("userinfo with a password", "http://api.example.com:80@evil.example.net/"),
		plain("empty userinfo", "http://@evil.example.net/"),
		plain("backslash before userinfo", `http://api.example.com\@evil.example.net/`),
		plain("backslash in the host", `http://api.example.com\.evil.example.net/`),
		plain("no host", "http:///fine"),
		plain("empty port in a URL", "http://api.example.com:/fine"),
		plain("fragment instead of a path", "http://api.example.com#@evil.example.net/"),
		plain("decimal address in a URL", "http://2852039166/latest/meta-data/"),
	}
}

// addresses: requests that name an address themselves.
func addresses() []escape {
	no := func(name, authority string) escape {
		return escape{name: name, send: connect(authority), want: only(403), reason: reasonNoRule}
	}
	form := func(name, authority string) escape {
		return escape{name: name, send: connect(authority), want: only(403), reason: reasonAddress}
	}
	return []escape{
		no("address of an allowed host", publicAPI+":443"),
		no("address of an allowed host, other port of a range", publicCDN+":22"),
		no("loopback", "{trap}"),
		no("loopback on a port that a broad range has", "127.0.0.1:9999"),
		no("metadata on a port that a broad range has", "169.254.169.254:9999"),
		no("private on a port that a broad range has", "10.0.0.1:9999"),
		no("CGNAT on a port that a broad range has", "100.64.0.1:9999"),
		no("multicast on a port that a broad range has", "224.0.0.1:9999"),
		no("broadcast on a port that a broad range has", "255.255.255.255:9999"),
		no("unspecified on a port that a broad range has", "0.0.0.0:9999"),
		no("benchmarking on a port that a broad range has", "198.18.0.1:9999"),
		no("documentation on a port that a broad range has", "203.0.113.7:9999"),
		no("Azure's platform address", "168.63.129.16:9999"),
		no("private address", "192.168.1.1:443"),
		no("metadata address", "169.254.169.254:80"),
		no("IPv6 loopback", "[::1]:443"),
		no("IPv6 unspecified", "[::]:443"),
		no("IPv6 link-local", "[fe80::1]:443"),
		no("IPv6 unique local", "[fd00::1]:443"),
		no("IPv6 metadata", "[fd00:ec2::254]:80"),
		no("IPv4-mapped loopback", "[::ffff:127.0.0.1]:443"),
		no("IPv4-mapped loopback in hexadecimal", "[::ffff:7f00:1]:443"),
		no("IPv4-mapped address of a range rule", "[::ffff:151.101.1.6]:443"),
		no("IPv4-compatible loopback", "[::127.0.0.1]:443"),
		no("6to4 of loopback", "[2002:7f00:1::]:443"),
		no("Teredo", "[2001:0:4136:e378:8000:63bf:80ff:fffe]:443"),
		no("local NAT64 of metadata", "[64:ff9b:1::a9fe:a9fe]:80"),
		form("NAT64 of loopback under a NAT64 rule", "[64:ff9b::7f00:1]:443"),
		form("NAT64 of metadata under a NAT64 rule", "[64:ff9b::169.254.169.254]:80"),
	}
}

// rebindings are names below an allowed domain whose owner points them at what
// the guest must not reach.
var rebindings = map[string]string{
	"loopback":    "127.0.0.1",
	"this-net":    "0.0.0.0",
	"private-10":  "10.1.2.3",
	"private-172": "172.31.255.255",
	"private-192": "192.168.0.1",
	"link-local":  "169.254.10.10",
	"metadata":    "169.254.169.254",
	"alibaba":     "100.100.100.200",
	"cgnat":       "100.127.255.254",
	"multicast":   "239.1.1.1",
	"broadcast":   "255.255.255.255",
	"reserved":    "250.0.0.1",
	"benchmark":   "198.19.255.255",
	"document":    "192.0.2.77",
	"six-loop":    "::1",
	"six-any":     "::",
	"six-link":    "fe80::1",
	"six-site":    "fec0::1",
	"six-ula":     "fd12:3456::1",
	"six-doc":     "2001:db8::1",
	"six-multi":   "ff02::1",
	"six-meta":    "fd00:ec2::254",
	"mapped":      "::ffff:127.0.0.1",
	"compatible":  "::10.0.0.1",
	"nat64":       "64:ff9b::a00:1",
	"nat64-local": "64:ff9b:1::7f00:1",
	"sixtofour":   "2002:a00:1::",
	"teredo":      "2001:0:4136:e378:8000:63bf:f5ff:fffe",
	"outside":     "4000::1",
}

// rebound: allowed names that lead to where they should not.
func rebound() []escape {
	var table []escape
	names := make([]string, 0, len(rebindings)+1)
	for name := range rebindings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range append(names, "mixed") {
		h := name + ".rebind.example"
		table = append(table, escape{
			name: "name that resolves to " + name, send: connect(h + ":443"),
			want: only(403), reason: reasonAddress, lookups: []string{h},
		})
	}
	h := "loopback.rebind.example"
	return append(table, escape{
		name: "plain request to a name that resolves to loopback", send: get("http://" + h + "/"),
		want: only(403), reason: reasonAddress, lookups: []string{h},
	})
}

// forms: requests that are not for a forward proxy.
func forms() []escape {
	bad := func(name, send string, status int, code reason) escape {
		return escape{name: name, send: send, want: only(status), reason: code}
	}
	return []escape{
		bad("origin form", lines("GET / HTTP/1.1", "Host: api.example.com"), 400, reasonNotProxy),
		bad("origin form that looks like a URL", lines("GET //evil.example.net/ HTTP/1.1", "Host: api.example.com"), 400, reasonNotProxy),
		bad("asterisk form", lines("OPTIONS * HTTP/1.1", "Host: api.example.com"), 400, reasonNotProxy),
		bad("https in absolute form", lines("GET https://api.example.com/ HTTP/1.1", "Host: api.example.com"), 400, reasonScheme),
		bad("ftp", lines("GET ftp://api.example.com/ HTTP/1.1", "Host: api.example.com"), 400, reasonScheme),
		bad("file", lines("GET file:///etc/passwd HTTP/1.1", "Host: api.example.com"), 400, reasonScheme),
		bad("gopher", lines("GET gopher://evil.example.net:70/1 HTTP/1.1", "Host: evil.example.net"), 400, reasonScheme),
		bad("unix socket", lines("GET http+unix://%2Fvar%2Frun%2Fdocker.sock/info HTTP/1.1", "Host: docker"), 400, reasonScheme),
		bad("TRACE", lines("TRACE http://api.example.com/ HTTP/1.1", "Host: api.example.com"), 405, reasonMethod),
		bad("connect in lower case", lines("connect evil.example.net:443 HTTP/1.1", "Host: evil.example.net"), 501, reasonMethod),
		bad("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, reasonMalformed),
		bad("HTTP/0.9", "GET http://api.example.com/\r\n\r\n", 400, reasonMalformed),
		bad("HTTP/1.2", lines("GET http://api.example.com/ HTTP/1.2", "Host: api.example.com"), 505, reasonMalformed),
		bad("TLS to the proxy itself", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400, reasonMalformed),
		bad("SOCKS5", "\x05\x01\x00", 400, reasonMalformed),
		bad("PROXY protocol", "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"+connect("evil.example.net:443"), 400, reasonMalformed),
		bad("probe from elsewhere is a request like others", lines("POST /healthz HTTP/1.1", "Host: egress"), 400, reasonNotProxy),
		bad("unknown expectation", get("http://api.example.com/", "Expect: the-unexpected"), 417, reasonExpect),
		bad("endless header", "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nX: "+strings.Repeat("x", 70<<10), 431, reasonTooLarge),
		bad("header that never ends", "GET http://api.example.com/ HTTP/1.1\r\nHost: api", 408, reasonSlowHeader),
	}
}

// mismatches: two answers to the question who is asked for.
func mismatches() []escape {
	bad := func(name string, l ...string) escape {
		return escape{name: name, send: lines(l...), want: only(400), reason: reasonHostMismatch}
	}
	malformed := func(name string, l ...string) escape {
		return escape{name: name, send: lines(l...), want: only(400), reason: reasonMalformed}
	}
	return []escape{
		bad("other Host", "GET http://api.example.com/ HTTP/1.1", "Host: evil.example.net"),
		bad("other Host in CONNECT", "CONNECT api.example.com:443 HTTP/1.1", "Host: evil.example.net:443"),
		bad("Host with another port", "GET http://api.example.com/ HTTP/1.1", "Host: api.example.com:8080"),
		bad("Host with another port in CONNECT", "CONNECT api.example.com:443 HTTP/1.1", "Host: api.example.com:22"),
		bad("Host below the target", "GET http://api.example.com/ HTTP/1.1", "Host: x.api.example.com"),
		bad("Host with userinfo", "GET http://api.example.com/ HTTP/1.1", "Host: api.example.com@evil.example.net"),
		bad("two names in Host", "GET http://api.example.com/ HTTP/1.1", "Host: api.example.com, evil.example.net"),
		bad("empty Host", "GET http://api.example.com/ HTTP/1.1", "Host:"),
		malformed("two Host fields", "GET http://api.example.com/ HTTP/1.1", "Host: api.example.com", "Host: evil.example.net"),
		malformed("two equal Host fields", "GET http://api.example.com/ HTTP/1.1", "Host: api.example.com", "Host: api.example.com"),
		malformed("no Host", "GET http://api.example.com/ HTTP/1.1"),
	}
}

// smuggling: messages whose end or lines two parsers could see differently.
func smuggling() []escape {
	const start = "POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n"
	hidden := get("http://evil.example.net/")
	framing := func(name string, fields ...string) escape {
		return escape{name: name, send: start + lines(fields...) + "0\r\n\r\n" + hidden, want: only(400), reason: reasonFraming}
	}
	malformed := func(name, send string) escape {
		return escape{name: name, send: send, want: only(400), reason: reasonMalformed}
	}
	field := func(name, line string) escape { return malformed(name, start+lines(line)) }
	return []escape{
		framing("CL.TE", "Content-Length: 5", "Transfer-Encoding: chunked"),
		framing("TE.CL", "Transfer-Encoding: chunked", "Content-Length: 5"),
		framing("two Content-Length", "Content-Length: 5", "Content-Length: 0"),
		framing("two equal Content-Length", "Content-Length: 5", "Content-Length: 5"),
		framing("Content-Length list", "Content-Length: 5, 5"),
		framing("negative Content-Length", "Content-Length: -5"),
		framing("signed Content-Length", "Content-Length: +5"),
		framing("hexadecimal Content-Length", "Content-Length: 0x5"),
		framing("Content-Length with an underscore", "Content-Length: 1_0"),
		framing("Content-Length beyond 63 bits", "Content-Length: 9223372036854775808"),
		framing("empty Content-Length", "Content-Length:"),
		framing("chunked twice", "Transfer-Encoding: chunked, chunked"),
		framing("chunked not last", "Transfer-Encoding: chunked, identity"),
		framing("chunked after gzip", "Transfer-Encoding: gzip, chunked"),
		framing("two Transfer-Encoding", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
		framing("unknown Transfer-Encoding", "Transfer-Encoding: xchunked"),
		framing("quoted chunked", `Transfer-Encoding: "chunked"`),
		framing("chunked with a parameter", "Transfer-Encoding: chunked;x=y"),
		framing("vertical tab-like TE in other case with CL", "content-length: 5", "TRANSFER-ENCODING: ChUnKeD"),
		{name: "Transfer-Encoding in HTTP/1.0", want: only(400), reason: reasonFraming,
			send: lines("POST http://api.example.com/ HTTP/1.0", "Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden},
		{name: "CONNECT with a body", want: only(400), reason: reasonFraming,
			send: lines("CONNECT api.example.com:443 HTTP/1.1", "Host: api.example.com:443", "Content-Length: 5") + "hello"},
		{name: "CONNECT with chunks", want: only(400), reason: reasonFraming,
			send: lines("CONNECT api.example.com:443 HTTP/1.1", "Host: api.example.com:443", "Transfer-Encoding: chunked") + "0\r\n\r\n"},
		field("space before the colon", "Content-Length : 5"),
		field("tab before the colon", "Transfer-Encoding\t: chunked"),
		field("folded line", "X: a\r\n Transfer-Encoding: chunked"),
		field("line that begins with a tab", "\tTransfer-Encoding: chunked"),
		field("no colon", "Transfer-Encoding chunked"),
		field("no name", ": chunked"),
		field("NUL in a value", "X: a\x00b"),
		field("NUL in a name", "Transfer\x00-Encoding: chunked"),
		field("vertical tab in a value", "Transfer-Encoding:\x0bchunked"),
		field("bare CR in a value", "X: a\rTransfer-Encoding: chunked"),
		field("non-ASCII name", "Tränsfer-Encoding: chunked"),
		field("bracketed name", "[Host]: evil.example.net"),
		malformed("bare LF in the header", start+"X: y\nTransfer-Encoding: chunked\r\n\r\n"),
		malformed("bare LF everywhere", "GET http://api.example.com/ HTTP/1.1\nHost: api.example.com\n\n"),
		malformed("bare LF at the end", start+"X: y\r\n\n"+hidden),
		malformed("bare LF after the request line", "GET http://api.example.com/ HTTP/1.1\nHost: api.example.com\r\n\r\n"),
		malformed("two spaces in the request line", lines("GET  http://api.example.com/ HTTP/1.1", "Host: api.example.com")),
		malformed("tab in the request line", lines("GET\thttp://api.example.com/ HTTP/1.1", "Host: api.example.com")),
		malformed("space in the target", lines("GET http://api.example.com/ http://evil.example.net/ HTTP/1.1", "Host: api.example.com")),
		malformed("leading space", " "+get("http://api.example.com/")),
		malformed("trailing space", lines("GET http://api.example.com/ HTTP/1.1 ", "Host: api.example.com")),
		malformed("NUL in the target", lines("GET http://api.example.com/\x00 HTTP/1.1", "Host: api.example.com")),
		malformed("non-ASCII host", lines("CONNECT api\u3002example.com:443 HTTP/1.1", "Host: api.example.com:443")),
		malformed("full-width digits", lines("CONNECT １２７.0.0.1:443 HTTP/1.1", "Host: 127.0.0.1:443")),
		malformed("fragment in the target", lines("GET http://api.example.com/#@evil.example.net/ HTTP/1.1", "Host: api.example.com")),
		malformed("bad escape in the target", lines("GET http://api.example.com/%zz HTTP/1.1", "Host: api.example.com")),
		malformed("several empty lines first", "\r\n\r\n\r\n"+get("http://api.example.com/")),
	}
}

// pipelined: a second request on a connection that began well.
func pipelined() []escape {
	fine := get("http://api.example.com/fine")
	post := func(fields ...string) string {
		return lines(append([]string{"POST http://api.example.com/fine HTTP/1.1", "Host: api.example.com"}, fields...)...)
	}
	evil := get("http://evil.example.net/")
	second := func(name, send string, status int, code reason) escape {
		return escape{name: name, send: send, want: []int{200, status}, reason: code,
			lookups: []string{"api.example.com"}, dials: []string{publicAPI + ":80"}}
	}
	// What is wrong in a body shows only after the request went out.
	inBody := func(name, body string) escape {
		return escape{name: name, send: post("Transfer-Encoding: chunked") + body, want: only(400), reason: reasonFraming,
			lookups: []string{"api.example.com"}, dials: []string{publicAPI + ":80"}}
	}
	return []escape{
		second("another host second", fine+evil, 403, reasonNoRule),
		second("CONNECT to another host second", fine+connect("evil.example.net:443"), 403, reasonNoRule),
		second("origin form second", fine+lines("GET / HTTP/1.1", "Host: evil.example.net"), 400, reasonNotProxy),
		second("ambiguous framing second", fine+post("Content-Length: 5", "Transfer-Encoding: chunked"), 400, reasonFraming),
		second("after a body with a length", post("Content-Length: 4")+"data"+evil, 403, reasonNoRule),
		second("after a chunked body", post("Transfer-Encoding: chunked")+"4\r\ndata\r\n0\r\n\r\n"+evil, 403, reasonNoRule),
		second("after a trailer", post("Transfer-Encoding: chunked")+"4\r\ndata\r\n0\r\nX: y\r\n\r\n"+evil, 403, reasonNoRule),
		second("body longer than its length", post("Content-Length: 2")+"da"+"ta\r\n\r\n", 400, reasonMalformed),
		inBody("chunk with a bare LF", "4\ndata\r\n0\r\n\r\n"+evil),
		inBody("chunk longer than its size", "2\r\ndata\r\n0\r\n\r\n"+evil),
		inBody("chunk size with a prefix", "0x4\r\ndata\r\n0\r\n\r\n"),
		inBody("chunk size with a sign", "+4\r\ndata\r\n0\r\n\r\n"),
		inBody("chunk size with a space", "4 \r\ndata\r\n0\r\n\r\n"),
		inBody("chunk size beyond 63 bits", "fffffffffffffffff\r\ndata\r\n0\r\n\r\n"),
		inBody("LF inside a chunk extension", "4;x\ny\r\ndata\r\n0\r\n\r\n"),
		inBody("endless chunk extension", "4;"+strings.Repeat("x", 4<<10)+"\r\ndata\r\n0\r\n\r\n"),
		{name: "request behind a refused CONNECT", want: only(403), reason: reasonNoRule,
			send: connect("evil.example.net:443") + evil},
		{name: "request behind an allowed one's refused body", want: only(403), reason: reasonNoRule,
			send: lines("POST http://evil.example.net/ HTTP/1.1", "Host: evil.example.net", "Connection: close", "Content-Length: 4") + "data"},
	}
}

// serverNames: what comes through a tunnel to an allowed host.
func serverNames(t *testing.T) []escape {
	through := func(name, authority, then string, code reason) escape {
		h, port, _ := strings.Cut(authority, ":")
		e := escape{name: name, send: connect(authority), want: only(200), then: then, reason: code}
		if h == publicCDN {
			e.dials = []string{authority}
			return e
		}
		e.lookups, e.dials = []string{h}, []string{publicAPI + ":" + port}
		return e
	}
	const api = "api.example.com:443"
	good := hello(t, "api.example.com")
	split := fragment(hello(t, "evil.example.net"), 7)
	return []escape{
		through("other server name", api, hello(t, "evil.example.net"), reasonServerName),
		through("other server name in many records", api, split, reasonServerName),
		through("allowed but other server name", api, hello(t, "a.wild.example"), reasonServerName),
		through("server name below the host", api, hello(t, "x.api.example.com"), reasonServerName),
		through("no server name", api, hello(t, ""), reasonServerName),
		through("server name hidden by ECH", api, encryptedHello(t, "evil.example.net", "api.example.com"), reasonECH),
		through("HTTP on 443", api, get("http://evil.example.net/"), reasonNotTLS),
		through("SSH on 443", api, "SSH-2.0-OpenSSH_9.9\r\n", reasonNotTLS),
		through("SSLv2 hello on 443", api, "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", reasonNotTLS),
		through("half a ClientHello", api, good[:40], reasonBadHello),
		through("ClientHello that lies about its length", api, good[:5]+"\x01\xff\xff\xff"+good[9:], reasonBadHello),
		through("alert before the ClientHello", api, "\x15\x03\x01\x00\x02\x01\x00"+good, reasonNotTLS),
		through("TLS record that is no handshake message", api, "\x16\x03\x01\x00\x04\x02\x00\x00\x00", reasonBadHello),
		through("server name with a trailing dot", api, strings.Replace(hello(t, "api.example.comX"), "comX", "com.", 1), reasonBadHello),
		through("server name with a NUL", api, strings.Replace(hello(t, "api.example.com.evil.example.net"), "com.evil", "com\x00evil", 1), reasonServerName),
		through("endless ClientHello", api, "\x16\x03\x01\x40\x00\x01\x00\xff\xff"+strings.Repeat("\x00", 0x4000-4)+
			strings.Repeat("\x16\x03\x01\x40\x00"+strings.Repeat("\x00", 0x4000), 2), reasonBadHello),
		through("other server name on another port", "alt.example.com:8443", hello(t, "evil.example.net"), reasonServerName),
		through("server name at an address that no rule has", publicCDN+":443", hello(t, "evil.example.net"), reasonServerName),
	}
}

// fragment spreads the handshake message of one record over records of n bytes.
func fragment(record string, n int) string {
	var b strings.Builder
	for chunk := range slices.Chunk([]byte(record[5:]), n) {
		b.WriteString("\x16\x03\x01")
		b.WriteString(string(binary.BigEndian.AppendUint16(nil, uint16(len(chunk)))))
		b.Write(chunk)
	}
	return b.String()
}

// encryptedHello is a ClientHello for inner that shows outer.
func encryptedHello(t testing.TB, inner, outer string) string {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u16 := binary.BigEndian.AppendUint16
	// ECHConfigContents of RFC 9849 section 4: X25519, HKDF-SHA256, AES-128-GCM.
	contents := []byte{1}
	contents = u16(contents, 0x0020)
	contents = append(u16(contents, 32), key.PublicKey().Bytes()...)
	contents = u16(u16(u16(contents, 4), 1), 1)
	contents = append(contents, 32, byte(len(outer)))
	contents = u16(append(contents, outer...), 0)
	config := append(u16(u16(nil, extensionECH), uint16(len(contents))), contents...)
	list := append(u16(nil, uint16(len(config))), config...)
	flight := helloFor(t, &tls.Config{ServerName: inner, MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list})
	parsed, _, err := readClientHello(t.Context(), bufio.NewReader(strings.NewReader(string(flight))))
	if err != nil || !parsed.encrypted || parsed.serverName != outer {
		t.Fatalf("the test's own ECH ClientHello reads as %+v, %v", parsed, err)
	}
	return string(flight)
}

package egress

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// head is what a vetted header block says that matters for a decision.
type head struct {
	method string
	uri    string // the request target as received; compared, never logged
	target target
	// length is the body's length in bytes, -1 for a chunked body.
	length int64
}

func (h head) isConnect() bool { return h.method == http.MethodConnect }

// probePath is answered to the container itself, see [Proxy.Check].
const probePath = "/healthz"

// vetHead checks one request's header block, from the request line to the empty
// line, both included, against a strict reading of RFC 9112: whatever two
// parsers could understand in two ways is refused. net/http is more lenient and
// normalises before a handler can look (it drops Content-Length next to
// Transfer-Encoding, joins folded lines, accepts bare LF and ignores Host next
// to an absolute target), so the judging is done on the bytes.
func vetHead(block []byte) (head, *refusal) {
	line, rest, ok := bytes.Cut(block, crlf)
	if !ok {
		return head{}, malformed("the request line has no end")
	}
	h, proto, refused := vetRequestLine(line)
	if refused != nil {
		return h, refused
	}
	fields, refused := vetFields(rest)
	if refused != nil {
		return h, refused
	}
	if h.length, refused = vetFraming(fields, h, proto); refused != nil {
		return h, refused
	}
	if v := fields.get("expect"); len(v) > 1 || len(v) == 1 && !strings.EqualFold(v[0], "100-continue") {
		return h, refuse(http.StatusExpectationFailed, reasonExpect, "the only expectation possible is 100-continue")
	}
	if h.target, refused = vetTarget(h); refused != nil {
		return h, refused
	}
	if refused = vetHost(fields, h, proto); refused != nil {
		refused.host = h.target.host.String()
		return h, refused
	}
	return h, nil
}

var crlf = []byte("\r\n")

func malformed(text string) *refusal {
	return refuse(http.StatusBadRequest, reasonMalformed, "malformed request: %s", text)
}

// vetRequestLine takes the line apart: method SP target SP version, RFC 9112
// section 3, with exactly one space each.
func vetRequestLine(line []byte) (h head, proto string, refused *refusal) {
	for _, c := range line {
		if c < ' ' || c >= 0x7f {
			return head{}, "", malformed("the request line has a byte that is not visible ASCII")
		}
	}
	parts := strings.Split(string(line), " ")
	if len(parts) != 3 {
		return head{}, "", malformed("the request line is not METHOD TARGET VERSION with single spaces")
	}
	h.method, h.uri, proto = parts[0], parts[1], parts[2]
	if proto != "HTTP/1.1" && proto != "HTTP/1.0" {
		return h, "", refuse(http.StatusHTTPVersionNotSupported, reasonMalformed, "only HTTP/1.1 and HTTP/1.0 are spoken here")
	}
	for _, c := range []byte(h.method) {
		if !('A' <= c && c <= 'Z') && c != '-' && c != '_' {
			// Methods are case-sensitive; "connect" must not be taken for
			// CONNECT by one side only.
			return h, "", refuse(http.StatusNotImplemented, reasonMethod, "a method is written in upper-case letters")
		}
	}
	switch h.method {
	case "":
		return h, "", malformed("the method is missing")
	case http.MethodTrace, "TRACK":
		// They send the request's header back, credentials included.
		return h, "", refuse(http.StatusMethodNotAllowed, reasonMethod, "method %s is not forwarded", h.method)
	}
	return h, proto, nil
}

// fields maps lower-case field names to values without surrounding white space.
type fields map[string][]string

func (f fields) get(name string) []string { return f[name] }

// vetFields checks the field lines up to and including the empty line.
func vetFields(block []byte) (fields, *refusal) {
	f := fields{}
	for {
		line, rest, ok := bytes.Cut(block, crlf)
		if !ok {
			return nil, malformed("the header block has no end")
		}
		if len(line) == 0 {
			if len(rest) != 0 {
				return nil, malformed("the header block goes on after its end")
			}
			return f, nil
		}
		name, value, refused := vetField(line)
		if refused != nil {
			return nil, refused
		}
		f[name] = append(f[name], value)
		block = rest
	}
}

// vetField checks one line without its CRLF: token ":" value (RFC 9110 section
// 5, RFC 9112 section 5; obsolete folding and space before the colon refused).
func vetField(line []byte) (name, value string, refused *refusal) {
	if line[0] == ' ' || line[0] == '\t' {
		return "", "", malformed("a header line begins with white space (obsolete line folding)")
	}
	before, after, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return "", "", malformed("a header line has no colon")
	}
	if len(before) == 0 {
		return "", "", malformed("a header field has no name")
	}
	for _, c := range before {
		if !isTokenByte(c) {
			return "", "", malformed("a header field's name has a character that is not allowed there")
		}
	}
	for _, c := range after {
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", "", malformed("a header field's value has a control character")
		}
	}
	return strings.ToLower(string(before)), string(bytes.Trim(after, " \t")), nil
}

// isTokenByte is tchar of RFC 9110 section 5.6.2.
func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// vetFraming returns the body's length, -1 for chunked, and refuses every form
// with which a sender could make two recipients see different ends of the body
// (RFC 9112 section 6.3 and 11.2).
func vetFraming(f fields, h head, proto string) (int64, *refusal) {
	ambiguous := func(text string) (int64, *refusal) {
		return 0, refuse(http.StatusBadRequest, reasonFraming, "ambiguous request: %s", text)
	}
	length, coding := f.get("content-length"), f.get("transfer-encoding")
	switch {
	case len(length) > 0 && len(coding) > 0:
		return ambiguous("it has both Content-Length and Transfer-Encoding")
	case len(length) > 1:
		return ambiguous("it has more than one Content-Length")
	case len(coding) > 1:
		return ambiguous("it has more than one Transfer-Encoding")
	}
	n := int64(0)
	if len(coding) == 1 {
		if !strings.EqualFold(coding[0], "chunked") {
			return ambiguous("the only transfer coding possible is chunked")
		}
		if proto == "HTTP/1.0" {
			return ambiguous("HTTP/1.0 has no Transfer-Encoding")
		}
		n = -1
	}
	if len(length) == 1 {
		// ParseUint takes no sign, but would take nothing else besides
		// digits only in base 0.
		u, err := strconv.ParseUint(length[0], 10, 63)
		if err != nil {
			return ambiguous("its Content-Length is not a decimal number")
		}
		n = int64(u)
	}
	if h.isConnect() && n != 0 {
		return ambiguous("CONNECT has no body")
	}
	return n, nil
}

// vetTarget reads the request target: authority form for CONNECT, absolute form
// with http:// for everything else (RFC 9112 section 3.2).
func vetTarget(h head) (target, *refusal) {
	if h.isConnect() {
		t, err := parseAuthority(h.uri, 0)
		if err != nil {
			return target{}, badHost(h.uri, err)
		}
		return t, nil
	}
	scheme, rest, ok := strings.Cut(h.uri, "://")
	if strings.HasPrefix(h.uri, "/") || h.uri == "*" || !ok {
		return target{}, refuse(http.StatusBadRequest, reasonNotProxy,
			"this is a forward proxy, not a server: send the absolute form (GET http://host/ HTTP/1.1) or CONNECT host:port")
	}
	switch strings.ToLower(scheme) {
	case "http":
	case "https":
		return target{}, refuse(http.StatusBadRequest, reasonScheme,
			"an https:// address is reached with CONNECT, because nothing is decrypted here")
	default:
		return target{}, refuse(http.StatusBadRequest, reasonScheme, "only http:// addresses can be requested; use CONNECT for anything else")
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority = rest[:i]
	}
	t, err := parseAuthority(authority, 80)
	if err != nil {
		return target{}, badHost(authority, err)
	}
	// net/http will parse the same text; it must arrive at the same place.
	u, err := url.ParseRequestURI(h.uri)
	if err != nil || u.Host != authority || u.User != nil || u.Opaque != "" || strings.Contains(h.uri, "#") {
		return target{}, malformed("the request target is not a valid http:// address")
	}
	return t, nil
}

func badHost(authority string, err error) *refusal {
	r := refuse(http.StatusBadRequest, reasonHost, "the target is not valid: %v", err)
	// What stands before an @ may be a password.
	if !strings.Contains(authority, "@") {
		r.host = authority
	}
	return r
}

// vetHost makes the Host field agree with the target. RFC 9112 section 3.2.2
// lets a proxy ignore it; a server behind a shared address may not.
func vetHost(f fields, h head, proto string) *refusal {
	hosts := f.get("host")
	switch {
	case len(hosts) > 1:
		return malformed("it has more than one Host field")
	case len(hosts) == 0 && (proto == "HTTP/1.0" || h.isConnect()):
		return nil
	case len(hosts) == 0:
		return malformed("the Host field is missing")
	}
	// Clients differ in whether they repeat CONNECT's port in Host.
	defaultPort := uint16(80)
	if h.isConnect() {
		defaultPort = h.target.port
	}
	t, err := parseAuthority(hosts[0], defaultPort)
	if err != nil {
		return refuse(http.StatusBadRequest, reasonHostMismatch, "the Host field is not valid: %v", err)
	}
	if t != h.target {
		return refuse(http.StatusBadRequest, reasonHostMismatch, "the Host field names another server than the request target")
	}
	return nil
}

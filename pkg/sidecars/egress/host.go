package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// target is where a request wants to go, in normal form.
type target struct {
	host host
	port uint16
}

// String returns host:port, an IPv6 address in brackets.
func (t target) String() string {
	return t.host.bracketed() + ":" + strconv.Itoa(int(t.port))
}

// host is either a DNS name (lower-case A-labels, no trailing dot) or an IP
// address, never both. Two spellings of one host give equal values.
type host struct {
	name string
	addr netip.Addr
}

func (h host) isAddr() bool { return h.addr.IsValid() }

func (h host) String() string {
	if h.isAddr() {
		return h.addr.String()
	}
	return h.name
}

func (h host) bracketed() string {
	if h.isAddr() && h.addr.Is6() {
		return "[" + h.addr.String() + "]"
	}
	return h.String()
}

// Limits of RFC 1035 section 2.3.4, in octets of the textual form.
const (
	maxNameLength  = 253
	maxLabelLength = 63
)

// parseAuthority parses host[:port] as it stands in a request target or a Host
// field (RFC 3986 section 3.2, without user information). defaultPort is used
// when none is given; 0 makes a port mandatory.
func parseAuthority(s string, defaultPort uint16) (target, error) {
	if strings.Contains(s, "@") {
		return target{}, errUserInfo
	}
	hostPart, portPart, hasPort, err := cutPort(s)
	if err != nil {
		return target{}, err
	}
	t := target{port: defaultPort}
	if hasPort {
		if t.port, err = parsePort(portPart); err != nil {
			return target{}, err
		}
	} else if defaultPort == 0 {
		return target{}, errors.New("the port is missing")
	}
	if strings.HasPrefix(hostPart, "[") {
		t.host, err = parseIPv6(hostPart[1 : len(hostPart)-1])
	} else {
		t.host, err = parseHost(hostPart)
	}
	return t, err
}

var errUserInfo = errors.New("user information (user@host) is not accepted")

// cutPort splits off ":port". The host part keeps its brackets.
func cutPort(s string) (hostPart, port string, hasPort bool, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", false, errors.New("the closing bracket of the IPv6 address is missing")
		}
		rest := s[end+1:]
		if rest == "" {
			return s, "", false, nil
		}
		if rest[0] != ':' {
			return "", "", false, errors.New("only :port may follow an address in brackets")
		}
		return s[:end+1], rest[1:], true, nil
	}
	hostPart, port, hasPort = strings.Cut(s, ":")
	if strings.Contains(port, ":") {
		return "", "", false, errors.New("an IPv6 address belongs in brackets, and there is only one port")
	}
	return hostPart, port, hasPort, nil
}

// parsePort accepts decimal ports from 1 to 65535 without sign or leading zero,
// so that a port has one spelling.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", clip(s, 12))
	}
	return uint16(n), nil
}

func parseIPv6(s string) (host, error) {
	if strings.Contains(s, "%") {
		return host{}, errors.New("an IPv6 zone has no meaning beyond this container")
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() {
		return host{}, errors.New("what stands in brackets is not an IPv6 address")
	}
	return host{addr: a}, nil
}

// parseHost parses a DNS name or a dotted IPv4 address. Names are brought to
// lower-case A-labels (UTS 46, as for lookups) and lose one trailing dot.
// Every other way to write an IPv4 address (decimal, octal, hexadecimal, short,
// trailing dot) is an error: resolvers disagree about them, and a name can
// never end in a number.
func parseHost(s string) (host, error) {
	name := strings.TrimSuffix(s, ".")
	if name == "" {
		return host{}, errors.New("the host is missing")
	}
	// Bounds the work below; an internationalised name is at most a few times
	// as long as its A-labels.
	if len(name) > 4*maxNameLength {
		return host{}, fmt.Errorf("the host is longer than %d bytes", maxNameLength)
	}
	name, err := toASCII(name)
	if err != nil {
		return host{}, err
	}
	if len(name) > maxNameLength {
		return host{}, fmt.Errorf("the host is longer than %d bytes", maxNameLength)
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return host{}, err
		}
	}
	if endsInNumber(name) {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() {
			return host{}, errors.New("an IPv4 address is written as four decimal numbers, without leading zeros or a trailing dot")
		}
		return host{addr: a}, nil
	}
	return host{name: name}, nil
}

// toASCII maps a name to lower-case A-labels.
func toASCII(name string) (string, error) {
	ascii := true
	for i := range len(name) {
		if name[i] >= 0x80 {
			ascii = false
			break
		}
	}
	name = strings.ToLower(name)
	if ascii && !strings.Contains(name, "xn--") {
		return name, nil
	}
	// Lookup mapping with two relaxations that real names need: underscores
	// (checkLabel decides on characters) and "--" in the third place, as
	// content networks use in plain ASCII labels.
	profile := idna.New(
		idna.MapForLookup(),
		idna.BidiRule(),
		idna.CheckJoiners(true),
		idna.CheckHyphens(false),
		idna.StrictDomainName(false),
	)
	mapped, err := profile.ToASCII(name)
	if err != nil {
		return "", errors.New("the host is not a valid internationalised name")
	}
	// An A-label that decodes to nothing but ASCII is a second spelling of
	// another name.
	for label := range strings.SplitSeq(mapped, ".") {
		if !strings.HasPrefix(label, "xn--") {
			continue
		}
		decoded, err := profile.ToUnicode(label)
		if err != nil || strings.HasPrefix(decoded, "xn--") || isASCII(decoded) {
			return "", errors.New("the host has a label that is not valid punycode")
		}
	}
	return strings.ToLower(mapped), nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return errors.New("the host has an empty label (two dots in a row, or a dot at an end)")
	case len(label) > maxLabelLength:
		return fmt.Errorf("the host has a label longer than %d bytes", maxLabelLength)
	case label[0] == '-' || label[len(label)-1] == '-':
		return errors.New("a label of the host begins or ends with a hyphen")
	}
	for i := range len(label) {
		if c := label[i]; !isLower(c) && !isDigit(c) && c != '-' && c != '_' {
			return fmt.Errorf("the host has a character that is not allowed in a name: %q", c)
		}
	}
	return nil
}

// endsInNumber is the rule of the WHATWG URL standard (section 3.5, "ends in a
// number checker"): such a host is an IPv4 address or nothing.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// clip bounds what of a foreign string is repeated in a message.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

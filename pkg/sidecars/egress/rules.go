package egress

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// rules is a parsed allowlist. It is never changed after parseRules.
type rules struct {
	exact    map[string][]portRule // by name
	below    map[string][]portRule // by the name that *. stands in front of
	prefixes []prefixRule
	count    int
}

// portRule is the text of an entry and the port it allows; 0 stands for the
// default ports, 80 and 443.
type portRule struct {
	text string
	port uint16
}

func (r portRule) covers(port uint16) bool {
	if r.port == 0 {
		return port == 80 || port == 443
	}
	return r.port == port
}

type prefixRule struct {
	portRule
	prefix netip.Prefix
}

// entry is one line of an allowlist and where it stands.
type entry struct {
	text   string
	source string // "EGRESS_ALLOW entry 2" or "/etc/egress/allow:14"
}

// parseRules builds the rules, or reports every entry that is wrong.
func parseRules(entries []entry) (*rules, error) {
	r := &rules{exact: map[string][]portRule{}, below: map[string][]portRule{}, count: len(entries)}
	var problems []error
	for _, e := range entries {
		if err := r.add(e.text); err != nil {
			problems = append(problems, fmt.Errorf("%s: allowlist entry %q: %w", e.source, clip(e.text, 300), err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return r, nil
}

func (r *rules) add(text string) error {
	switch {
	case text == "":
		return errors.New("it is empty; two commas in a row, or one at an end?")
	case strings.Contains(text, "://"):
		return errors.New("it has a scheme; give the host alone, as in example.com or example.com:8080")
	case strings.Contains(text, "@"):
		return errors.New("it has user information; give the host alone")
	case text == "*":
		return errors.New("it would allow everything; name a domain, as in *.example.com, or an address range")
	case strings.ContainsAny(text, " \t"):
		return errors.New("it has white space inside; entries are separated by commas in EGRESS_ALLOW and by lines in a file")
	case strings.ContainsAny(text, "?#\\"):
		return errors.New("it has a character that is not part of a host; paths and queries are not filtered")
	}
	// A single address may carry a port in two ways; a bare IPv6 address has
	// more than one colon and no brackets.
	if a, err := netip.ParseAddr(text); err == nil {
		return r.addPrefix(text, a.String()+fmt.Sprintf("/%d", a.BitLen()), 0)
	}
	body, port, err := cutEntryPort(text)
	if err != nil {
		return err
	}
	switch {
	case strings.Contains(body, "/"):
		return r.addPrefix(text, body, port)
	case strings.HasPrefix(body, "["):
		h, err := parseIPv6(strings.Trim(body, "[]"))
		if err != nil {
			return err
		}
		return r.addPrefix(text, h.String()+"/128", port)
	case strings.HasPrefix(body, "*."):
		h, err := parseHost(body[2:])
		if err != nil {
			return err
		}
		if h.isAddr() {
			return errors.New("a wildcard cannot stand in front of an address; give a range such as 192.0.2.0/24")
		}
		r.below[h.name] = append(r.below[h.name], portRule{text, port})
		return nil
	case strings.Contains(body, "*"):
		return errors.New("a wildcard is only possible as the whole first label, as in *.example.com")
	}
	h, err := parseHost(body)
	if err != nil {
		return err
	}
	if h.isAddr() {
		return r.addPrefix(text, h.String()+"/32", port)
	}
	r.exact[h.name] = append(r.exact[h.name], portRule{text, port})
	return nil
}

// cutEntryPort cuts ":port" off an entry; 0 when there is none. An IPv6 range
// with a port has its range in brackets ([2001:db8::]/32:443 and
// [2001:db8::/32]:443 both read naturally, so both are taken), without a port
// the brackets may be left out.
func cutEntryPort(text string) (body string, port uint16, err error) {
	if !strings.HasPrefix(text, "[") && strings.Count(text, ":") > 1 {
		if strings.Contains(text, "/") {
			i := strings.IndexByte(text, '/')
			if strings.Contains(text[i:], ":") {
				return "", 0, errors.New("an IPv6 range with a port is written with brackets, as in [2001:db8::]/32:443")
			}
			return text, 0, nil
		}
		return "", 0, errors.New("it is not a host, an address or a range; an IPv6 address with a port is written with brackets, as in [2001:db8::1]:443")
	}
	body = text
	tail := strings.LastIndexByte(text, ']') + 1
	if tail == 0 && strings.HasPrefix(text, "[") {
		return "", 0, errors.New("the closing bracket of the IPv6 address is missing")
	}
	if i := strings.IndexByte(text[tail:], ':'); i >= 0 {
		body = text[:tail+i]
		if port, err = parsePort(text[tail+i+1:]); err != nil {
			return "", 0, err
		}
	}
	return body, port, nil
}

func (r *rules) addPrefix(text, cidr string, port uint16) error {
	cidr = strings.NewReplacer("[", "", "]", "").Replace(cidr)
	addr, bits, _ := strings.Cut(cidr, "/")
	if strings.Contains(addr, "%") {
		return errors.New("an IPv6 zone has no meaning in an allowlist")
	}
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		if a, aerr := netip.ParseAddr(addr); aerr == nil {
			return fmt.Errorf("%q is not a prefix length from 0 to %d; a path is not possible", clip(bits, 12), a.BitLen())
		}
		return errors.New("it is not an address range such as 192.0.2.0/24; paths are not filtered, give the host alone")
	}
	if p != p.Masked() {
		return fmt.Errorf("it has bits set beyond the prefix length; did you mean %s or %s/%d?",
			p.Masked(), p.Addr(), p.Addr().BitLen())
	}
	r.prefixes = append(r.prefixes, prefixRule{portRule{text, port}, p})
	return nil
}

// name returns the entry that allows a DNS name on a port.
func (r *rules) name(name string, port uint16) (rule string, ok bool) {
	if text, ok := covering(r.exact[name], port); ok {
		return text, true
	}
	for rest := name; ; {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			return "", false
		}
		if text, ok := covering(r.below[parent], port); ok {
			return text, true
		}
		rest = parent
	}
}

func covering(list []portRule, port uint16) (string, bool) {
	for _, p := range list {
		if p.covers(port) {
			return p.text, true
		}
	}
	return "", false
}

// literal returns the entry that allows a request which itself names the
// address a. The entry must be a range, and if a is special, one that names it.
func (r *rules) literal(a netip.Addr, port uint16) (rule string, ok bool) {
	least := 0
	if b, special := specialBlock(a); special {
		least = b.prefix.Bits()
	}
	return r.ranged(a, port, least)
}

// permits reports whether an allowed name may lead to a. A public address may
// be dialled; one in a special block needs a range rule that names the block or
// a part of it. A broader range does not name it, so 0.0.0.0/0 means the public
// internet and opens neither the host's loopback nor its credentials. An IPv4
// address inside an IPv6 one must be permitted by itself as well.
func (r *rules) permits(a netip.Addr, port uint16) (block, bool) {
	if b, special := specialBlock(a); special {
		if _, ok := r.ranged(a, port, b.prefix.Bits()); !ok {
			return b, false
		}
	}
	if inner, ok := embeddedIPv4(a); ok {
		return r.permits(inner, port)
	}
	return block{}, true
}

// ranged finds a range rule that holds a and is no broader than least bits.
func (r *rules) ranged(a netip.Addr, port uint16, least int) (string, bool) {
	for _, p := range r.prefixes {
		if p.prefix.Bits() >= least && p.covers(port) && p.prefix.Contains(a) {
			return p.text, true
		}
	}
	return "", false
}

// allows decides on a target before anything is resolved. The rule is the text
// of the entry that matched.
func (r *rules) allows(t target) (rule string, ok bool) {
	if !t.host.isAddr() {
		return r.name(t.host.name, t.port)
	}
	rule, ok = r.literal(t.host.addr, t.port)
	if ok {
		_, ok = r.permits(t.host.addr, t.port)
	}
	return rule, ok
}

// maxAllowFile bounds an allowlist file, in bytes.
const maxAllowFile = 1 << 20

// loadRules reads the entries of cfg and of its file.
func loadRules(cfg Config) (*rules, error) {
	var entries []entry
	for i, text := range cfg.Allow {
		entries = append(entries, entry{text, fmt.Sprintf("EGRESS_ALLOW entry %d", i+1)})
	}
	if cfg.AllowFile != "" {
		content, err := readAllowFile(cfg.AllowFile)
		if err != nil {
			return nil, fmt.Errorf("EGRESS_ALLOW_FILE: %w", err)
		}
		entries = append(entries, fileEntries(cfg.AllowFile, content)...)
	}
	return parseRules(entries)
}

func readAllowFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if info.Size() > maxAllowFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxAllowFile)
	}
	return os.ReadFile(path)
}

// fileEntries returns the entries of a file: one a line, blank lines and what
// follows a # left out.
func fileEntries(path string, content []byte) []entry {
	var entries []entry
	number := 0
	for line := range bytes.Lines(content) {
		number++
		text, _, _ := strings.Cut(string(line), "#")
		if text = strings.TrimSpace(text); text != "" {
			entries = append(entries, entry{text, fmt.Sprintf("%s:%d", path, number)})
		}
	}
	return entries
}

package egress

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustRules(t testing.TB, entries ...string) *rules {
	t.Helper()
	r, err := loadRules(Config{Allow: entries})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRules(t *testing.T) {
	cases := []struct {
		entry     string
		allows    string // targets, separated by spaces
		refuses   string
		addresses string // to which an allowed name may lead on port 80, beside public ones
	}{
		{entry: "api.example.com",
			allows:  "api.example.com:80 api.example.com:443 API.example.com.:443",
			refuses: "api.example.com:8080 x.api.example.com:443 example.com:443 93.184.216.34:443"},
		{entry: "Api.Example.COM.", allows: "api.example.com:443", refuses: "example.com:443"},
		{entry: "*.example.com",
			allows:  "a.example.com:80 a.b.c.example.com:443",
			refuses: "example.com:443 a.example.com:22 aexample.com:443 example.com.evil:443"},
		{entry: "*.example.com:22", allows: "a.example.com:22", refuses: "a.example.com:443 a.example.com:80 example.com:22"},
		{entry: "example.com:8080", allows: "example.com:8080", refuses: "example.com:80 example.com:443"},
		{entry: "localhost", allows: "localhost:80", refuses: "127.0.0.1:80"},
		{entry: "my_service:80", allows: "my_service:80", refuses: "my-service:80"},
		{entry: "r3---sn-abc.example", allows: "r3---sn-abc.example:443"},
		{entry: "bücher.example", allows: "xn--bcher-kva.example:443", refuses: "bucher.example:443"},
		{entry: "*.bücher.example", allows: "a.xn--bcher-kva.example:443", refuses: "xn--bcher-kva.example:443"},
		{entry: "*.test", allows: "a.test:80 a.b.test:80", refuses: "test:80"},
		{entry: "10.0.0.0/8", allows: "10.0.0.1:80 10.255.255.255:443", refuses: "10.0.0.1:22 11.0.0.1:80 [::ffff:10.0.0.1]:80",
			addresses: "10.0.0.1"},
		{entry: "10.0.0.0/8:22", allows: "10.0.0.1:22", refuses: "10.0.0.1:80"},
		{entry: "10.1.2.3", allows: "10.1.2.3:80", refuses: "10.1.2.4:80", addresses: "10.1.2.3"},
		{entry: "10.1.2.3:8080", allows: "10.1.2.3:8080", refuses: "10.1.2.3:80"},
		{entry: "93.184.216.0/24", allows: "93.184.216.34:443", refuses: "93.184.217.34:443 [::ffff:93.184.216.34]:443"},
		{entry: "0.0.0.0/0", allows: "93.184.216.34:443",
			refuses: "127.0.0.1:443 10.0.0.1:443 169.254.169.254:80 0.0.0.0:80 100.64.0.1:80 [2606::1]:443"},
		{entry: "::/0", allows: "[2606:4700::1]:443", refuses: "[::1]:443 [fd00::1]:443 [::ffff:127.0.0.1]:80 [64:ff9b::808:808]:80 1.1.1.1:80"},
		{entry: "127.0.0.0/8", allows: "127.0.0.1:80 127.1.2.3:80", refuses: "0.0.0.0:80 [::1]:80 localhost:80", addresses: "127.0.0.1"},
		{entry: "169.254.0.0/16", allows: "169.254.1.1:80", refuses: "169.254.169.254:80 169.254.170.2:80", addresses: "169.254.1.1"},
		{entry: "169.254.169.254", allows: "169.254.169.254:80", refuses: "169.254.1.1:80", addresses: "169.254.169.254"},
		{entry: "100.64.0.0/10", allows: "100.64.0.1:80", refuses: "100.100.100.200:80", addresses: "100.64.0.1"},
		{entry: "fc00::/7", allows: "[fd00::1]:80", refuses: "[fd00:ec2::254]:80", addresses: "fd00::1"},
		{entry: "2001:db8::1", allows: "[2001:db8::1]:443", refuses: "[2001:db8::2]:443", addresses: "2001:db8::1"},
		{entry: "[2001:db8::1]:8443", allows: "[2001:db8::1]:8443", refuses: "[2001:db8::1]:443"},
		{entry: "[2001:db8::]/32:8443", allows: "[2001:db8:1::]:8443", refuses: "[2001:db8:1::]:443"},
		{entry: "[2001:db8::/32]:8443", allows: "[2001:db8:1::]:8443", refuses: "[2001:db8:1::]:443"},
		{entry: "64:ff9b::/96", allows: "[64:ff9b::808:808]:80", refuses: "[64:ff9b::a00:1]:80 [64:ff9b::7f00:1]:80 8.8.8.8:80",
			addresses: "64:ff9b::808:808"},
		{entry: "::ffff:8.8.8.0/120", allows: "[::ffff:8.8.8.8]:80", refuses: "8.8.8.8:80 [::ffff:8.8.9.8]:80", addresses: "::ffff:8.8.8.8"},
		{entry: "::ffff:10.0.0.0/104", refuses: "[::ffff:10.0.0.1]:80 10.0.0.1:80"},
	}
	hidden := "127.0.0.1 10.0.0.1 10.1.2.3 169.254.169.254 169.254.1.1 100.64.0.1 fd00::1 2001:db8::1 ::1 ::ffff:8.8.8.8 64:ff9b::808:808 224.0.0.1"
	for _, c := range cases {
		r := mustRules(t, c.entry)
		for _, text := range strings.Fields(c.allows) {
			if rule, ok := r.allows(mustTarget(t, text)); !ok || rule != c.entry {
				t.Errorf("%s: %s is refused", c.entry, text)
			}
		}
		for _, text := range strings.Fields(c.refuses) {
			if _, ok := r.allows(mustTarget(t, text)); ok {
				t.Errorf("%s: %s is allowed", c.entry, text)
			}
		}
		for _, text := range strings.Fields(hidden) {
			want := strings.Contains(" "+c.addresses+" ", " "+text+" ") ||
				c.entry == "10.0.0.0/8" && text == "10.1.2.3"
			if _, ok := r.permits(netip.MustParseAddr(text), 80); ok != want {
				t.Errorf("%s: an allowed name may lead to %s: %v", c.entry, text, ok)
			}
		}
		for _, text := range []string{"8.8.8.8", "2606:4700::1"} {
			if _, ok := r.permits(netip.MustParseAddr(text), 80); !ok {
				t.Errorf("%s: an allowed name may not lead to %s", c.entry, text)
			}
		}
	}
}

func mustTarget(t testing.TB, text string) target {
	t.Helper()
	parsed, err := parseAuthority(text, 0)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return parsed
}

func TestBadEntries(t *testing.T) {
	for entry, want := range map[string]string{
		"":                          "empty",
		"*":                         "everything",
		"http://example.com":        "scheme",
		"https://example.com/x":     "scheme",
		"example.com/path":          "paths are not filtered",
		"user@example.com":          "user information",
		"*example.com":              "whole first label",
		"a.*.example.com":           "whole first label",
		"*.*.example.com":           "not allowed in a name",
		"example.*":                 "whole first label",
		"*.10.0.0.1":                "wildcard cannot stand in front of an address",
		"example.com:0":             `port "0"`,
		"example.com:65536":         `port "65536"`,
		"example.com:":              `port ""`,
		"example.com:http":          `port "http"`,
		"example.com:080":           `port "080"`,
		"10.0.0.0/33":               `"33" is not a prefix length from 0 to 32`,
		"10.0.0.0/x":                "not a prefix length",
		"10.0.0.1/8":                "did you mean 10.0.0.0/8 or 10.0.0.1/32?",
		"10.0.0.0/8:99999":          `port "99999"`,
		"10.0.0.0/8/8":              "not a prefix length",
		"2001:db8::/129":            "from 0 to 128",
		"2001:db8::/32:443":         "with brackets",
		"2001:db8::1:443x":          "with brackets",
		"[2001:db8::1":              "closing bracket",
		"[example.com]":             "not an IPv6 address",
		"fe80::1%eth0/64":           "zone",
		"[fe80::1%eth0]":            "zone",
		"127.1":                     "four decimal numbers",
		"0x7f.0.0.1":                "four decimal numbers",
		"2130706433":                "four decimal numbers",
		"010.0.0.1":                 "four decimal numbers",
		"a b":                       "white space",
		"a..b":                      "empty label",
		"-a.example":                "hyphen",
		"a;b.example":               `';'`,
		"a?b.example":               "not part of a host",
		"xn--a-ecp.example":         "internationalised",
		strings.Repeat("a", 64):     "longer than 63",
		strings.Repeat("a.", 200):   "longer than 253",
		strings.Repeat("ü.", 2000):  "longer than 253",
		"example.com\x00.evil.test": `'\x00'`,
	} {
		_, err := loadRules(Config{Allow: []string{"fine.example", entry}})
		if err == nil {
			t.Errorf("%q is accepted", entry)
			continue
		}
		if text := err.Error(); !strings.Contains(text, want) || !strings.Contains(text, "EGRESS_ALLOW entry 2") {
			t.Errorf("%q: %v, want the position and %q", entry, err, want)
		}
	}
}

// TestEveryBadEntryIsNamed, from both sources.
func TestEveryBadEntryIsNamed(t *testing.T) {
	path := t.TempDir() + "/allow"
	allowFile(t, path, "# a comment", "", "good.example   # and one behind", "bad one", "*")
	_, err := New(Config{Allow: []string{"*", "good.example", "x:0"}, AllowFile: path}, nil)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`EGRESS_ALLOW entry 1: allowlist entry "*"`, `EGRESS_ALLOW entry 3: allowlist entry "x:0"`,
		path + `:4: allowlist entry "bad one"`, path + `:5: allowlist entry "*"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	if strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("more than the four entries are named:\n%v", err)
	}
	if _, err := New(Config{AllowFile: path + ".absent"}, nil); err == nil || !strings.Contains(err.Error(), "EGRESS_ALLOW_FILE") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := New(Config{AllowFile: t.TempDir()}, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
}

// TestSpecialAddressesNeedTheirOwnRule checks the decision against a slow model
// that knows the blocks by the standard library's predicates.
func TestSpecialAddressesNeedTheirOwnRule(t *testing.T) {
	none := mustRules(t)
	rapid.Check(t, func(t *rapid.T) {
		var a netip.Addr
		if rapid.Bool().Draw(t, "IPv4") {
			a = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")))
		} else {
			a = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")))
		}
		bad := a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() ||
			a.IsInterfaceLocalMulticast() || a.Is4In6() || a.Is6() && a.As16()[0]>>5 != 1
		if _, ok := none.permits(a, 443); ok && bad {
			t.Errorf("%v is permitted", a)
		}
		// Its own rule always permits it, unless it hides a special address.
		own := netip.PrefixFrom(a, a.BitLen()).String()
		r, err := loadRules(Config{Allow: []string{own}})
		if err != nil {
			t.Fatalf("%s: %v", own, err)
		}
		inner, hides := embeddedIPv4(a)
		_, hidden := specialBlock(inner)
		if _, ok := r.permits(a, 443); !ok && !(hides && hidden) {
			t.Errorf("%v is refused by its own rule", a)
		}
	})
}

func TestEmbeddedIPv4(t *testing.T) {
	for text, want := range map[string]string{
		"::ffff:10.0.0.1": "10.0.0.1", "::10.0.0.1": "10.0.0.1", "::ffff:0:10.0.0.1": "10.0.0.1",
		"64:ff9b::10.0.0.1": "10.0.0.1", "64:ff9b:1::10.0.0.1": "10.0.0.1", "2002:a00:1::5": "10.0.0.1",
		"2001:0:4136:e378:8000:63bf:f5ff:fffe": "10.0.0.1",
		"::1":                                  "", "::": "", "2606:4700::1": "", "10.0.0.1": "",
	} {
		got, ok := embeddedIPv4(netip.MustParseAddr(text))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, want %q", text, got, want)
		}
	}
}

// FuzzRules: whatever is accepted as an entry means the same when its target is
// written in normal form, and never everything.
func FuzzRules(f *testing.F) {
	for _, seed := range []string{"api.example.com", "*.example.com:22", "10.0.0.0/8:22", "[2001:db8::]/32:1", "bücher.example", "::1", "0.0.0.0/0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRules([]entry{{text, "here"}})
		if err != nil {
			if r != nil {
				t.Error("rules besides an error")
			}
			return
		}
		if len(r.exact)+len(r.below)+len(r.prefixes) != 1 {
			t.Errorf("%q gives %+v", text, r)
		}
		for name := range r.exact {
			if h, err := parseHost(name); err != nil || h.name != name {
				t.Errorf("%q gives the name %q, which is not in normal form", text, name)
			}
		}
		if _, ok := r.allows(target{host{name: "unrelated.invalid"}, 443}); ok &&
			!strings.Contains(strings.ToLower(text), "invalid") {
			t.Errorf("%q allows an unrelated name", text)
		}
		for _, a := range []string{"127.0.0.1", "169.254.169.254", "::1"} {
			address := netip.MustParseAddr(a)
			if _, ok := r.permits(address, 443); ok && !r.prefixes[0].prefix.Contains(address) {
				t.Errorf("%q permits %s", text, a)
			}
		}
	})
}

// FuzzHost: the normal form is a fixed point, and safe to put into a request.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"Example.COM.", "127.0.0.1", "0x7f.1", "bücher.example", "xn--bcher-kva.example", "a_b.c", "１２７.0.0.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHost(text)
		if err != nil {
			return
		}
		if (h.name == "") != h.addr.IsValid() {
			t.Errorf("%q is neither name nor address: %+v", text, h)
		}
		again, err := parseHost(h.String())
		if err != nil || again != h {
			t.Errorf("%q becomes %v, and that %v, %v", text, h, again, err)
		}
		if strings.Trim(h.String(), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || len(h.String()) > maxNameLength {
			t.Errorf("%q becomes %q", text, h)
		}
		if parsed, err := parseAuthority(h.String()+":443", 0); err != nil || parsed.host != h {
			t.Errorf("%q does not survive in an authority: %v, %v", text, parsed, err)
		}
	})
}

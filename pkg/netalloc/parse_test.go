package netalloc_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

func TestParsePool(t *testing.T) {
	for _, tt := range []struct {
		text, canonical string
		len, bits       int
	}{
		{"10.112.0.0/12", "10.112.0.0/12", 4096, 24},
		{"10.112.0.0/12,size=24", "10.112.0.0/12", 4096, 24},
		{"10.112.0.0/12,size=26", "10.112.0.0/12,size=26", 16384, 26},
		{"size=26,10.112.0.0/12", "10.112.0.0/12,size=26", 16384, 26},
		{"base=10.112.0.0/12,size=24", "10.112.0.0/12", 4096, 24},
		{"base=10.112.0.0/16,size=25,base=10.200.0.0/16,size=25", "10.112.0.0/16,10.200.0.0/16,size=25", 1024, 25},
		{"10.112.0.0/12,192.168.64.0/18", "10.112.0.0/12,192.168.64.0/18", 4160, 24},
		{"192.168.64.0/18,10.112.0.0/12", "192.168.64.0/18,10.112.0.0/12", 4160, 24},
		{" 10.112.0.0/12 , size=20 ", "10.112.0.0/12,size=20", 256, 20},
		{"10.0.0.0/24", "10.0.0.0/24", 1, 24},
		{"10.0.0.64/26", "10.0.0.64/26", 1, 26},
		{"10.0.0.64/26,10.0.9.0/26", "10.0.0.64/26,10.0.9.0/26", 2, 26},
		{"10.0.0.64/26,10.0.9.0/25,size=26", "10.0.0.64/26,10.0.9.0/25,size=26", 3, 26},
		{"10.0.0.64/26,size=28", "10.0.0.64/26,size=28", 4, 28},
		{"10.0.0.0/8,size=8", "10.0.0.0/8,size=8", 1, 8},
	} {
		pool, err := netalloc.ParsePool(tt.text)
		if err != nil {
			t.Errorf("ParsePool(%q): %v", tt.text, err)
			continue
		}
		if pool.String() != tt.canonical || pool.Len() != tt.len || pool.Bits() != tt.bits {
			t.Errorf("ParsePool(%q): %s, %d subnets of length %d; want %s, %d, %d",
				tt.text, pool, pool.Len(), pool.Bits(), tt.canonical, tt.len, tt.bits)
		}
	}
}

func TestParsePoolRefuses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", `pool "": is empty: give a prefix such as 10.112.0.0/12`},
		{" ", `pool " ": is empty: give a prefix such as 10.112.0.0/12`},
		{"size=24", `pool "size=24": no prefix given`},
		{"10.112.0.0", `pool "10.112.0.0": "10.112.0.0" is neither a prefix such as 10.112.0.0/12 nor size=N`},
		{"10.112.0.0/12,", `pool "10.112.0.0/12,": "" is neither a prefix such as 10.112.0.0/12 nor size=N`},
		{"10.112.0.0/33", `pool "10.112.0.0/33": "10.112.0.0/33" is neither a prefix such as 10.112.0.0/12 nor size=N`},
		{"10.112.0.0/12 10.0.0.0/12", `pool "10.112.0.0/12 10.0.0.0/12": "10.112.0.0/12 10.0.0.0/12" is neither a prefix such as 10.112.0.0/12 nor size=N`},
		{"10.112.0.0/12:26", `pool "10.112.0.0/12:26": "10.112.0.0/12:26" is not a prefix: did you mean 10.112.0.0/12,size=26?`},
		{"10.112.0.0/12,size=x", `pool "10.112.0.0/12,size=x": size "x" is not a prefix length such as 24`},
		{"10.112.0.0/12,size=-1", `pool "10.112.0.0/12,size=-1": size "-1" is not a prefix length such as 24`},
		{"10.112.0.0/12,size=24,size=25", `pool "10.112.0.0/12,size=24,size=25": size=24 and size=25: all subnets of a pool have the same length`},
		{"10.112.0.0/12,size=8", `pool "10.112.0.0/12,size=8": prefix 10.112.0.0/12 is smaller than one /8 subnet`},
		{"10.0.0.0/24,10.0.9.0/26", `pool "10.0.0.0/24,10.0.9.0/26": prefixes of different lengths, one longer than /24: add size=26 or longer to say how to cut them`},
		{"10.0.0.0/30", `pool "10.0.0.0/30": subnets of length /30 are too small: the gateway, the bundle and a dynamic address in the upper half need a /29 or larger`},
		{"10.113.2.3/12", `pool "10.113.2.3/12": 10.113.2.3/12 is not a network address: did you mean 10.112.0.0/12?`},
		{"fd00::/8", `pool "fd00::/8": fd00::/8 is IPv6: an IPv4 prefix is needed`},
		{"10.0.0.0/8,10.1.0.0/16", `pool "10.0.0.0/8,10.1.0.0/16": prefixes 10.0.0.0/8 and 10.1.0.0/16 overlap`},
		{"0.0.0.0/0", `pool "0.0.0.0/0": more than 1048576 subnets of length /24: give smaller prefixes or larger subnets`},
		{"invalid Pool", `pool "invalid Pool": "invalid Pool" is neither a prefix such as 10.112.0.0/12 nor size=N`},
	} {
		pool, err := netalloc.ParsePool(tt.text)
		if err == nil || err.Error() != tt.want {
			t.Errorf("ParsePool(%q): %v\nwant %s", tt.text, err, tt.want)
		}
		if pool.Len() != 0 {
			t.Errorf("ParsePool(%q): a pool of %d subnets beside the error", tt.text, pool.Len())
		}
	}
}

func TestPoolStringRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, _, pool := drawPool(t)
		checkRoundTrip(t, pool)
	})
}

// checkRoundTrip checks that a pool's text stands for the same subnets in the
// same order.
func checkRoundTrip(t interface{ Fatalf(string, ...any) }, pool netalloc.Pool) {
	again, err := netalloc.ParsePool(pool.String())
	if err != nil {
		t.Fatalf("pool reads back: %v", err)
	}
	if again.String() != pool.String() || again.Bits() != pool.Bits() || again.Len() != pool.Len() {
		t.Fatalf("%s (%d of /%d) reads back as %s (%d of /%d)",
			pool, pool.Len(), pool.Bits(), again, again.Len(), again.Bits())
	}
	if pool.Len() <= 1024 && !slices.Equal(slices.Collect(again.Order("demo")), slices.Collect(pool.Order("demo"))) {
		t.Fatalf("%s reads back with another order", pool)
	}
}

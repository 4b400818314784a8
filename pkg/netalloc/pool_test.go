package netalloc_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

func TestNewPool(t *testing.T) {
	for _, tt := range []struct {
		bits     int
		prefixes []netip.Prefix
		len      int
	}{
		{24, prefixes("10.112.0.0/12"), 4096},
		{24, prefixes("10.112.0.0/12", "192.168.64.0/18"), 4096 + 64},
		{29, prefixes("192.168.7.8/29"), 1},
		{29, prefixes("10.0.0.0/9"), 1 << 20},
		{0, prefixes("0.0.0.0/0"), 1},
		{20, prefixes("0.0.0.0/0"), 1 << 20},
		{25, prefixes("255.255.255.0/24"), 2},
		{24, prefixes("10.0.1.0/24", "10.0.0.0/24", "10.0.2.0/24"), 3},
	} {
		pool, err := netalloc.NewPool(tt.bits, tt.prefixes...)
		if err != nil {
			t.Errorf("NewPool(%d, %v): %v", tt.bits, tt.prefixes, err)
			continue
		}
		if pool.Len() != tt.len || pool.Bits() != tt.bits {
			t.Errorf("NewPool(%d, %v): Len %d, Bits %d; want %d, %d", tt.bits, tt.prefixes, pool.Len(), pool.Bits(), tt.len, tt.bits)
		}
	}
}

func TestNewPoolRefuses(t *testing.T) {
	mapped := netip.PrefixFrom(netip.MustParseAddr("::ffff:10.1.0.0"), 112)
	for _, tt := range []struct {
		bits     int
		prefixes []netip.Prefix
		want     string
	}{
		{24, nil, "pool: no prefix given"},
		{24, []netip.Prefix{{}}, "pool: the prefix given is not valid"},
		{24, prefixes("fd00::/8"), "pool: fd00::/8 is IPv6: an IPv4 prefix is needed"},
		{24, []netip.Prefix{mapped}, "pool: ::ffff:10.1.0.0/112 is an IPv4-mapped IPv6 prefix: did you mean 10.1.0.0/16?"},
		{24, prefixes("10.113.2.3/12"), "pool: 10.113.2.3/12 is not a network address: did you mean 10.112.0.0/12?"},
		{24, prefixes("10.0.0.0/16", "10.0.0.0/25"), "pool: prefix 10.0.0.0/25 is smaller than one /24 subnet"},
		{24, prefixes("10.64.0.0/16", "192.168.0.0/16", "10.0.0.0/8"), "pool: prefixes 10.0.0.0/8 and 10.64.0.0/16 overlap"},
		{24, prefixes("10.0.0.0/24", "10.0.0.0/24"), "pool: prefixes 10.0.0.0/24 and 10.0.0.0/24 overlap"},
		{24, prefixes("0.0.0.0/0"), "pool: more than 1048576 subnets of length /24: give smaller prefixes or larger subnets"},
		{29, prefixes("10.0.0.0/9", "11.0.0.0/29"), "pool: more than 1048576 subnets of length /29: give smaller prefixes or larger subnets"},
		{30, prefixes("10.0.0.0/24"), "pool: subnets of length /30 are too small: the gateway, the bundle and a dynamic address in the upper half need a /29 or larger"},
		{33, prefixes("10.0.0.0/24"), "pool: 33 is not the length of an IPv4 subnet"},
		{-1, prefixes("10.0.0.0/24"), "pool: -1 is not the length of an IPv4 subnet"},
	} {
		pool, err := netalloc.NewPool(tt.bits, tt.prefixes...)
		if err == nil || err.Error() != tt.want {
			t.Errorf("NewPool(%d, %v): %v; want %s", tt.bits, tt.prefixes, err, tt.want)
		}
		if pool.Len() != 0 {
			t.Errorf("NewPool(%d, %v): a pool of %d subnets beside the error", tt.bits, tt.prefixes, pool.Len())
		}
	}

	_, err := netalloc.NewPool(24, netip.MustParsePrefix("10.113.2.3/12"))
	var subnetErr *netalloc.SubnetError
	if !errors.As(err, &subnetErr) || subnetErr.Prefix.String() != "10.113.2.3/12" {
		t.Errorf("host bits set: %v is not a SubnetError naming the prefix", err)
	}
}

func TestDefaultPool(t *testing.T) {
	pool := netalloc.DefaultPool()
	if got := pool.String(); got != "10.112.0.0/12" || pool.Len() != 4096 || pool.Bits() != 24 {
		t.Errorf("default pool: %s, %d subnets of length %d; want 10.112.0.0/12, 4096, 24", got, pool.Len(), pool.Bits())
	}
}

func TestZeroPool(t *testing.T) {
	var pool netalloc.Pool
	if pool.Len() != 0 || pool.Bits() != 0 || pool.String() != "invalid Pool" {
		t.Errorf("zero Pool: Len %d, Bits %d, %q", pool.Len(), pool.Bits(), pool)
	}
	if home := pool.Home("demo"); home.IsValid() {
		t.Errorf("zero Pool: home %s", home)
	}
	if order := slices.Collect(pool.Order("demo")); order != nil {
		t.Errorf("zero Pool: order %v", order)
	}
	_, err := pool.Allocate("demo", prefixes("0.0.0.0/0"), prefixes("10.0.0.0/8"))
	if exhausted := new(netalloc.ExhaustedError); !errors.As(err, &exhausted) || exhausted.Taken != 0 {
		t.Errorf("zero Pool: Allocate: %v; want an ExhaustedError with nothing taken", err)
	}
}

// A pool keeps nothing of the caller's slice.
func TestPoolDoesNotChange(t *testing.T) {
	list := prefixes("10.112.0.0/24", "10.0.0.0/24")
	pool, err := netalloc.NewPool(24, list...)
	if err != nil {
		t.Fatal(err)
	}
	list[0], list[1] = netip.Prefix{}, netip.Prefix{}
	if got := pool.String(); got != "10.112.0.0/24,10.0.0.0/24" {
		t.Errorf("after the caller's slice changed, the pool is %s", got)
	}
}

func TestOrderVisitsEverySubnetOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits, prefixes, pool := drawPool(t)
		slug := rapid.String().Draw(t, "slug")
		order := slices.Collect(pool.Order(slug))
		if diff := cmp.Diff(modelOrder(slug, bits, prefixes), order, cmp.Comparer(equal)); diff != "" {
			t.Fatalf("order differs from the model (-want +got):\n%s", diff)
		}
		if home := pool.Home(slug); home != order[0] {
			t.Fatalf("home is %s, the order begins with %s", home, order[0])
		}

		seen := map[netip.Prefix]bool{}
		for _, subnet := range order {
			if seen[subnet] {
				t.Fatalf("%s visited twice", subnet)
			}
			seen[subnet] = true
			if err := netalloc.Check(subnet); err != nil {
				t.Fatalf("order visits a subnet no bottle can use: %v", err)
			}
			if !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool {
				return subnet.Bits() == bits && p.Bits() <= bits && p.Contains(subnet.Addr())
			}) {
				t.Fatalf("%s is no subnet of length %d of %v", subnet, bits, prefixes)
			}
		}
		if len(seen) != pool.Len() {
			t.Fatalf("%d of %d subnets visited", len(seen), pool.Len())
		}
	})
}

// The largest pool and the default one, in full.
func TestOrderVisitsEverySubnetOnceInLargePools(t *testing.T) {
	for _, text := range []string{"10.112.0.0/12", "10.0.0.0/9,size=29", "10.0.0.0/12,172.16.0.0/12,192.168.0.0/17,size=27"} {
		pool, err := netalloc.ParsePool(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, slug := range []string{"demo", "agent-1", strings.Repeat("x", 63)} {
			seen := make(map[netip.Prefix]bool, pool.Len())
			for subnet := range pool.Order(slug) {
				seen[subnet] = true
			}
			if len(seen) != pool.Len() {
				t.Errorf("pool %s, slug %s: %d of %d subnets visited", text, slug, len(seen), pool.Len())
			}
		}
	}
}

func equal(a, b netip.Prefix) bool { return a == b }

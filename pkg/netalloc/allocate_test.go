package netalloc_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// The table speaks of places in the slug's order; the golden file says which
// subnets they are.
func TestAllocate(t *testing.T) {
	pool, err := netalloc.ParsePool("192.168.4.0/22")
	if err != nil {
		t.Fatal(err)
	}
	order := slices.Collect(pool.Order("demo"))
	mapped := func(p netip.Prefix) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), 96+p.Bits())
	}
	hostIn := func(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr().Next().Next(), 32) }

	type list = []netip.Prefix
	for _, tt := range []struct {
		name            string
		taken, disliked list
		want            []int // places in the order, best first
	}{
		{"nothing in use", nil, nil, []int{0, 1, 2, 3}},
		{"home taken", list{order[0]}, nil, []int{1, 2, 3}},
		{"host route in home", list{hostIn(order[0])}, nil, []int{1, 2, 3}},
		{"last address of home", list{netip.PrefixFrom(order[1].Addr().Prev(), 32)}, nil, remove(order, order[1].Addr().Prev())},
		{"first address of the pool", prefixes("192.168.4.0/32"), nil, remove(order, netip.MustParseAddr("192.168.4.0"))},
		{"last address of the pool", prefixes("192.168.7.255/32"), nil, remove(order, netip.MustParseAddr("192.168.7.255"))},
		{"neighbours of the pool", prefixes("192.168.3.255/32", "192.168.8.0/32"), nil, []int{0, 1, 2, 3}},
		{"host bits set", list{netip.PrefixFrom(order[0].Addr().Next(), 25)}, nil, []int{1, 2, 3}},
		{"mapped", list{mapped(order[0])}, nil, []int{1, 2, 3}},
		{"mapped everything", list{netip.MustParsePrefix("::ffff:0.0.0.0/96")}, nil, nil},
		{"broader than the pool", prefixes("192.168.0.0/16"), nil, nil},
		{"default route", prefixes("0.0.0.0/0"), nil, nil},
		{"IPv6 default route", prefixes("::/0"), nil, []int{0, 1, 2, 3}},
		{"shorter than mapped", list{netip.PrefixFrom(netip.MustParseAddr("::ffff:0.0.0.0"), 95)}, nil, []int{0, 1, 2, 3}},
		{"invalid", list{{}, netip.PrefixFrom(order[0].Addr(), 33)}, nil, []int{0, 1, 2, 3}},
		{"elsewhere", prefixes("192.168.3.0/24", "192.168.8.0/24", "10.0.0.0/8"), nil, []int{0, 1, 2, 3}},
		{"VPN over everything", nil, prefixes("192.168.0.0/16"), []int{0, 1, 2, 3}},
		{"VPN over everything, home taken", list{order[0]}, prefixes("192.168.0.0/16"), []int{1, 2, 3}},
		{"home disliked", nil, list{order[0]}, []int{1, 2, 3, 0}},
		{"two disliked", nil, list{order[2], order[0]}, []int{1, 3, 0, 2}},
		{"taken and disliked", list{order[0]}, list{order[0]}, []int{1, 2, 3}},
		{"only a disliked one left", list{order[0], order[1], order[3]}, list{order[2]}, []int{2}},
		{"all taken", order, nil, nil},
	} {
		var want list
		for _, i := range tt.want {
			want = append(want, order[i])
		}
		if got := slices.Collect(pool.Candidates("demo", tt.taken, tt.disliked)); !slices.Equal(got, want) {
			t.Errorf("%s: candidates %v; want %v", tt.name, got, want)
		}
		got, err := pool.Allocate("demo", tt.taken, tt.disliked)
		if want == nil {
			if !errors.As(err, new(*netalloc.ExhaustedError)) || got.IsValid() {
				t.Errorf("%s: %v, %v; want an ExhaustedError", tt.name, got, err)
			}
		} else if err != nil || got != want[0] {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, want[0])
		}
	}
}

// remove returns the places of the order that do not contain addr.
func remove(order []netip.Prefix, addr netip.Addr) []int {
	var places []int
	for i, subnet := range order {
		if !subnet.Contains(addr) {
			places = append(places, i)
		}
	}
	return places
}

func TestExhaustedError(t *testing.T) {
	pool := netalloc.DefaultPool()
	_, err := pool.Allocate("demo", prefixes("10.0.0.0/8"), nil)
	var exhausted *netalloc.ExhaustedError
	if !errors.As(fmt.Errorf("network: %w", err), &exhausted) {
		t.Fatalf("%v is not an ExhaustedError", err)
	}
	if exhausted.Pool.String() != pool.String() || exhausted.Taken != 4096 {
		t.Errorf("pool %s, %d taken; want %s, 4096", exhausted.Pool, exhausted.Taken, pool)
	}
	const want = "pool 10.112.0.0/12: no free /24 subnet, 4096 of 4096 are in use: take down bottles that are no longer needed, or use a larger pool"
	if err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestCandidatesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits, prefixes, pool := drawPool(t)
		slug := rapid.String().Draw(t, "slug")
		taken := drawUsed(t, "taken", prefixes)
		disliked := drawUsed(t, "disliked", prefixes)
		checkAgainstModel(t, pool, bits, prefixes, slug, taken, disliked)
	})
}

// checkAgainstModel compares Candidates and Allocate with the model.
func checkAgainstModel(t interface{ Fatalf(string, ...any) }, pool netalloc.Pool, bits int, prefixes []netip.Prefix, slug string, taken, disliked []netip.Prefix) {
	want := modelCandidates(modelOrder(slug, bits, prefixes), taken, disliked)
	candidates := pool.Candidates(slug, taken, disliked)
	if got := slices.Collect(candidates); !slices.Equal(got, want) {
		t.Fatalf("pool %s, slug %q, taken %v, disliked %v:\ncandidates %v\nwant       %v", pool, slug, taken, disliked, got, want)
	}
	got, err := pool.Allocate(slug, taken, disliked)
	var exhausted *netalloc.ExhaustedError
	switch {
	case len(want) > 0 && (err != nil || got != want[0]):
		t.Fatalf("pool %s, slug %q, taken %v, disliked %v: %v, %v; want %v", pool, slug, taken, disliked, got, err, want[0])
	case len(want) == 0 && !errors.As(err, &exhausted):
		t.Fatalf("pool %s, slug %q, taken %v: %v, %v; want an ExhaustedError", pool, slug, taken, got, err)
	case len(want) == 0 && exhausted.Taken != pool.Len():
		t.Fatalf("pool %s: exhausted with %d of %d taken", pool, exhausted.Taken, pool.Len())
	}
}

// Bottles that each take what Allocate gives them fill the pool exactly.
func TestAllocateFillsThePool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, _, pool := drawPool(t)
		var taken []netip.Prefix
		for i := range pool.Len() {
			subnet, err := pool.Allocate(fmt.Sprintf("agent-%d", i), taken, nil)
			if err != nil {
				t.Fatalf("bottle %d of %d: %v", i, pool.Len(), err)
			}
			if modelOverlaps(subnet, taken) {
				t.Fatalf("bottle %d: %s overlaps a subnet given before", i, subnet)
			}
			taken = append(taken, subnet)
		}
		if subnet, err := pool.Allocate("one-more", taken, nil); err == nil {
			t.Fatalf("a full pool gave %s", subnet)
		}
	})
}

// The lists belong to the caller again once Candidates has returned.
func TestCandidatesKeepsNoList(t *testing.T) {
	pool := netalloc.DefaultPool()
	order := slices.Collect(pool.Order("demo"))
	taken, disliked := []netip.Prefix{order[0]}, []netip.Prefix{order[1]}
	candidates := pool.Candidates("demo", taken, disliked)
	taken[0], disliked[0] = order[2], order[3]
	for range 2 {
		want := append(slices.Clone(order[2:]), order[1])
		if got := slices.Collect(candidates); !slices.Equal(got, want) {
			t.Fatalf("candidates changed with the caller's lists: first %v; want %v", got[0], want[0])
		}
	}
}

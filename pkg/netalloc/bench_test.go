package netalloc_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

func BenchmarkHome(b *testing.B) {
	large, err := netalloc.ParsePool("10.112.0.0/12,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10")
	if err != nil {
		b.Fatal(err)
	}
	for _, bm := range []struct {
		name, slug string
		pool       netalloc.Pool
	}{
		{"short", "agent-1", netalloc.DefaultPool()},
		{"63bytes", strings.Repeat("x", 63), netalloc.DefaultPool()},
		{"4prefixes", "agent-1", large},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bm.pool.Home(bm.slug)
			}
		})
	}
}

func BenchmarkLoopbackHome(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		netalloc.LoopbackHome("agent-1")
	}
}

// The default pool with 3686 of its 4096 subnets taken, in random order, for a
// different slug each time.
func BenchmarkAllocate90Percent(b *testing.B) {
	pool := netalloc.DefaultPool()
	taken := slices.Collect(pool.Order(""))
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(taken), func(i, j int) { taken[i], taken[j] = taken[j], taken[i] })
	taken = taken[:3686]
	slugs := slugShapes()[0].slugs[:1024]
	for _, bm := range []struct {
		name     string
		disliked []netip.Prefix
	}{
		{"taken", nil},
		{"VPN", prefixes("10.0.0.0/8")},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := pool.Allocate(slugs[i%len(slugs)], taken, bm.disliked); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAllocateEmpty(b *testing.B) {
	pool := netalloc.DefaultPool()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pool.Allocate("agent-1", nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// The largest pool there can be, full.
func BenchmarkAllocateExhausted(b *testing.B) {
	pool, err := netalloc.ParsePool("10.0.0.0/9,size=29")
	if err != nil {
		b.Fatal(err)
	}
	taken := prefixes("0.0.0.0/0")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pool.Allocate("agent-1", taken, nil); err == nil {
			b.Fatal("a full pool gave a subnet")
		}
	}
}

func BenchmarkParsePool(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := netalloc.ParsePool("10.112.0.0/12,size=26"); err != nil {
			b.Fatal(err)
		}
	}
}

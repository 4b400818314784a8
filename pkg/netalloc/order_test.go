package netalloc_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// The golden file was written by testdata/order.py, not by this package. It
// proves that the order is the documented one and that it never changes.
func TestOrderGolden(t *testing.T) {
	file, err := os.Open("testdata/order.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	slugs := map[string]int{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var want struct {
			Slug  string
			Pool  string
			Bits  int
			Order []string
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		slugs[want.Slug]++
		var got []string
		if want.Pool == "loopback" {
			got = firstTexts(netalloc.LoopbackOrder(want.Slug), len(want.Order))
		} else {
			pool, err := netalloc.ParsePool(fmt.Sprintf("%s,size=%d", want.Pool, want.Bits))
			if err != nil {
				t.Fatal(err)
			}
			got = firstTexts(pool.Order(want.Slug), len(want.Order))
			if len(want.Order) != min(pool.Len(), 6) {
				t.Errorf("slug %q, pool %s: %d places in the golden file", want.Slug, pool, len(want.Order))
			}
		}
		if diff := cmp.Diff(want.Order, got); diff != "" {
			t.Errorf("slug %q, pool %s cut into /%d (-want +got):\n%s", want.Slug, want.Pool, want.Bits, diff)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(slugs) < 50 {
		t.Errorf("golden file has %d slugs; want 50 or more", len(slugs))
	}
	for slug, pools := range slugs {
		if pools != 7 {
			t.Errorf("golden file has %d lines for slug %q; want 6 pools and loopback", pools, slug)
		}
	}
}

// The home of any slug a container's name allows is found without allocating.
func TestHomeDoesNotAllocate(t *testing.T) {
	pool := netalloc.DefaultPool()
	for _, slug := range []string{"", "demo", strings.Repeat("x", 32), strings.Repeat("x", 63)} {
		if n := testing.AllocsPerRun(100, func() { pool.Home(slug) }); n != 0 {
			t.Errorf("Home of a slug of %d bytes: %v allocations", len(slug), n)
		}
		if n := testing.AllocsPerRun(100, func() { netalloc.LoopbackHome(slug) }); n != 0 {
			t.Errorf("LoopbackHome of a slug of %d bytes: %v allocations", len(slug), n)
		}
	}
}

// Slugs of one shape differ in little. Their homes must spread like random
// ones all the same.
func TestHomesSpreadEvenly(t *testing.T) {
	for _, text := range []string{"10.112.0.0/12", "172.20.0.0/16,192.168.64.0/18,10.5.0.0/24", "10.112.0.0/17,10.200.0.0/23,size=26"} {
		pool, err := netalloc.ParsePool(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, shape := range slugShapes() {
			homes := map[netip.Prefix]int{}
			for _, slug := range shape.slugs {
				homes[pool.Home(slug)]++
			}
			checkEven(t, fmt.Sprintf("pool %s, %s", pool, shape.name), homes, pool.Len(), len(shape.slugs))
		}
	}
}

func TestLoopbackHomesSpreadEvenly(t *testing.T) {
	for _, shape := range slugShapes() {
		blocks, last := map[netip.Prefix]int{}, map[byte]int{}
		for _, slug := range shape.slugs {
			home := netalloc.LoopbackHome(slug)
			block, err := home.Prefix(24)
			if err != nil {
				t.Fatal(err)
			}
			blocks[block]++
			last[home.As4()[3]]++
		}
		checkEven(t, "loopback /24s, "+shape.name, blocks, 4096, len(shape.slugs))
		checkEven(t, "loopback last bytes, "+shape.name, last, 254, len(shape.slugs))
	}
}

// Slugs that share a home should part at their second choice: of the pairs
// that share the first, 1 in 2048 shares the second by chance in a pool of
// 4096 subnets, where 2048 strides are possible.
func TestSharedHomeRarelySharesSecondChoice(t *testing.T) {
	pool := netalloc.DefaultPool()
	for _, shape := range slugShapes() {
		first, both := map[string]int{}, map[string]int{}
		for _, slug := range shape.slugs {
			choices := firstTexts(pool.Order(slug), 2)
			first[choices[0]]++
			both[choices[0]+" "+choices[1]]++
		}
		sharingFirst, sharingBoth := pairs(first), pairs(both)
		if sharingFirst < 1e6 {
			t.Fatalf("%s: only %d pairs share a home", shape.name, sharingFirst)
		}
		if share := float64(sharingBoth) / float64(sharingFirst); share > 1.2/2048 {
			t.Errorf("%s: of %d pairs with the same home %d have the same second choice; want about 1 in 2048",
				shape.name, sharingFirst, sharingBoth)
		}
	}
}

// A slug's loopback address says nothing about its subnet: those who share one
// home do not share the other more often than by chance.
func TestLoopbackIndependentOfSubnet(t *testing.T) {
	const cells = 64
	pool, err := netalloc.ParsePool("10.0.0.0/18")
	if err != nil {
		t.Fatal(err)
	}
	for _, shape := range slugShapes() {
		joint := map[[2]byte]int{}
		for _, slug := range shape.slugs {
			home, loopback := pool.Home(slug).Addr().As4(), netalloc.LoopbackHome(slug).As4()
			joint[[2]byte{home[2], loopback[2] % cells}]++
		}
		checkEven(t, "subnet and loopback, "+shape.name, joint, cells*cells, len(shape.slugs))
	}
}

type slugShape struct {
	name  string
	slugs []string
}

// slugShapes returns 100000 slugs for each of several shapes people use.
func slugShapes() []slugShape {
	const n = 100_000
	agents := []string{"claude", "codex", "gemini", "aider"}
	tasks := []string{"fix-login", "review", "docs", "refactor", "bench"}
	shapes := []slugShape{
		{name: "agent-N"}, {name: "padded"}, {name: "agent-task-N"}, {name: "hex"}, {name: "dated"}, {name: "63 bytes"},
	}
	for i := 1; i <= n; i++ {
		for s, slug := range []string{
			fmt.Sprintf("agent-%d", i),
			fmt.Sprintf("bot%06d", i),
			fmt.Sprintf("%s.%s_%d", agents[i%len(agents)], tasks[i/len(agents)%len(tasks)], i),
			fmt.Sprintf("%08x", uint32(i)*2654435761),
			fmt.Sprintf("nightly-2026-%02d-%02d-%d", i%12+1, i/12%28+1, i),
			fmt.Sprintf("%s-%06d", strings.Repeat("long", 14), i),
		} {
			shapes[s].slugs = append(shapes[s].slugs, slug)
		}
	}
	return shapes
}

// checkEven applies Pearson's chi-squared test to counts over cells. The
// statistic of evenly drawn counts is nearly normal for this many cells, with
// mean d and variance 2d for d = cells-1; it stays below 4 standard deviations
// but once in 30000.
func checkEven[K comparable](t *testing.T, name string, counts map[K]int, cells, total int) {
	t.Helper()
	if len(counts) > cells {
		t.Errorf("%s: %d cells, want at most %d", name, len(counts), cells)
		return
	}
	expected := float64(total) / float64(cells)
	chi2 := float64(cells-len(counts)) * expected
	for _, n := range counts {
		d := float64(n) - expected
		chi2 += d * d / expected
	}
	freedom := float64(cells - 1)
	limit := freedom + 4*math.Sqrt(2*freedom)
	t.Logf("%s: chi-squared %.0f, %.0f expected", name, chi2, freedom)
	if chi2 > limit {
		t.Errorf("%s: chi-squared %.0f exceeds %.0f", name, chi2, limit)
	}
}

func pairs(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c * (c - 1) / 2
	}
	return n
}

func firstTexts[T fmt.Stringer](order iter.Seq[T], n int) []string {
	var texts []string
	for v := range order {
		if texts = append(texts, v.String()); len(texts) == n {
			break
		}
	}
	return texts
}

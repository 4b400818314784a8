package netalloc_test

import (
	"net/netip"
	"testing"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

func TestLoopbackOrder(t *testing.T) {
	block := netip.MustParsePrefix("127.16.0.0/12")
	for _, slug := range []string{"", "demo", "agent-1"} {
		seen := map[netip.Addr]bool{}
		for addr := range netalloc.LoopbackOrder(slug) {
			if len(seen) == 0 && addr != netalloc.LoopbackHome(slug) {
				t.Errorf("slug %q: home is %s, the order begins with %s", slug, netalloc.LoopbackHome(slug), addr)
			}
			if last := addr.As4()[3]; !block.Contains(addr) || last == 0 || last == 255 {
				t.Fatalf("slug %q: %s is outside the documented range", slug, addr)
			}
			seen[addr] = true
		}
		if want := 4096 * 254; len(seen) != want {
			t.Errorf("slug %q: %d addresses visited; want %d", slug, len(seen), want)
		}
	}
}

//go:build e2e && linux

package faults

import (
	"net/netip"
	"testing"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// TestHostRoutes brings a bottle up on a host with real routes about its home subnet.
func TestHostRoutes(t *testing.T) {
	e := tests.own(t)
	ip := func(args ...string) {
		t.Helper()
		if output, err := e.inside("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, output)
		}
	}
	ip("link", "add", "flt0", "type", "bridge")
	defer ip("link", "del", "flt0")
	ip("link", "set", "flt0", "up")

	const text = "10.216.0.0/16"
	pool, err := netalloc.ParsePool(text)
	if err != nil {
		t.Fatal(err)
	}
	slug := tests.slug()
	allocate := func(taken, disliked []netip.Prefix) netip.Prefix {
		t.Helper()
		subnet, err := pool.Allocate(slug, taken, disliked)
		if err != nil {
			t.Fatal(err)
		}
		return subnet
	}
	home := allocate(nil, nil)
	around := func(bits int) netip.Prefix { return netip.PrefixFrom(home.Addr(), bits).Masked() }

	for _, test := range []struct {
		name  string
		route string
		want  netip.Prefix
	}{
		{"none", "", home},
		{"home", home.String(), allocate([]netip.Prefix{home}, nil)},
		{"inside of home", netip.PrefixFrom(home.Addr(), 28).String(), allocate([]netip.Prefix{home}, nil)},
		{"one address of home", netip.PrefixFrom(home.Addr().Next(), 32).String(), allocate([]netip.Prefix{home}, nil)},
		{"broader than home", around(20).String(), allocate(nil, []netip.Prefix{around(20)})},
		{"broader than the pool", "10.0.0.0/8", home},
		{"default", "default", home},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.route != "" {
				ip("route", "add", test.route, "dev", "flt0")
				defer ip("route", "del", test.route, "dev", "flt0")
			}
			if avoids := test.want != home; avoids && test.want.Overlaps(home) {
				t.Fatalf("%s and %s overlap", test.want, home)
			}
			o := e.must(t, "up", "-q", "--image", e.plain, "--pool", text, slug)
			if want := test.want.Addr().Next().Next().String(); o.stdout != want {
				t.Errorf("home is %s; with a route to %s the bundle is at %s, want %s", home, test.route, o.stdout, want)
			}
			if err := e.checkUp(t.Context(), slug); err != nil {
				t.Error(err)
			}
			if err := e.removes(t.Context(), t, slug); err != nil {
				t.Error(err)
			}
		})
	}
}

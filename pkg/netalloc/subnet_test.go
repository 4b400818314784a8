package netalloc_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ subnet, gateway, bundle, dynamic string }{
		{"10.112.0.0/24", "10.112.0.1", "10.112.0.2", "10.112.0.128/25"},
		{"10.112.0.0/12", "10.112.0.1", "10.112.0.2", "10.120.0.0/13"},
		{"192.168.7.0/29", "192.168.7.1", "192.168.7.2", "192.168.7.4/30"},
		{"192.168.7.240/28", "192.168.7.241", "192.168.7.242", "192.168.7.248/29"},
		{"255.255.255.248/29", "255.255.255.249", "255.255.255.250", "255.255.255.252/30"},
		{"0.0.0.0/0", "0.0.0.1", "0.0.0.2", "128.0.0.0/1"},
		{"128.0.0.0/1", "128.0.0.1", "128.0.0.2", "192.0.0.0/2"},
	} {
		subnet := netip.MustParsePrefix(tt.subnet)
		if err := netalloc.Check(subnet); err != nil {
			t.Errorf("Check(%s): %v", subnet, err)
		}
		if got := netalloc.Gateway(subnet).String(); got != tt.gateway {
			t.Errorf("Gateway(%s): %s; want %s", subnet, got, tt.gateway)
		}
		if got := netalloc.Bundle(subnet).String(); got != tt.bundle {
			t.Errorf("Bundle(%s): %s; want %s", subnet, got, tt.bundle)
		}
		if got := netalloc.DynamicRange(subnet).String(); got != tt.dynamic {
			t.Errorf("DynamicRange(%s): %s; want %s", subnet, got, tt.dynamic)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	const small = "is too small: the gateway, the bundle and a dynamic address in the upper half need a /29 or larger"
	v4 := netip.MustParseAddr("10.1.2.3")
	for _, tt := range []struct {
		subnet netip.Prefix
		want   string
	}{
		{netip.Prefix{}, "the prefix given is not valid"},
		{netip.PrefixFrom(v4, 33), "the prefix given is not valid"},
		{netip.MustParsePrefix("10.1.2.3/24"), "10.1.2.3/24 is not a network address: did you mean 10.1.2.0/24?"},
		{netip.MustParsePrefix("10.1.2.0/30"), "10.1.2.0/30 " + small},
		{netip.MustParsePrefix("10.1.2.0/31"), "10.1.2.0/31 " + small},
		{netip.MustParsePrefix("10.1.2.3/32"), "10.1.2.3/32 " + small},
		{netip.MustParsePrefix("fd00::/64"), "fd00::/64 is IPv6: an IPv4 prefix is needed"},
		{netip.MustParsePrefix("::/0"), "::/0 is IPv6: an IPv4 prefix is needed"},
		{netip.PrefixFrom(netip.AddrFrom16(v4.As16()), 120), "::ffff:10.1.2.3/120 is an IPv4-mapped IPv6 prefix: did you mean 10.1.2.0/24?"},
		{netip.PrefixFrom(netip.AddrFrom16(v4.As16()), 90), "::ffff:10.1.2.3/90 is IPv6: an IPv4 prefix is needed"},
	} {
		err := netalloc.Check(tt.subnet)
		var subnetErr *netalloc.SubnetError
		if !errors.As(fmt.Errorf("--subnet: %w", err), &subnetErr) || subnetErr.Prefix != tt.subnet || subnetErr.Error() != tt.want {
			t.Errorf("Check(%v): %v; want a SubnetError: %s", tt.subnet, err, tt.want)
		}
		if got := netalloc.Gateway(tt.subnet); got.IsValid() {
			t.Errorf("Gateway(%v): %s; want the zero Addr", tt.subnet, got)
		}
		if got := netalloc.Bundle(tt.subnet); got.IsValid() {
			t.Errorf("Bundle(%v): %s; want the zero Addr", tt.subnet, got)
		}
		if got := netalloc.DynamicRange(tt.subnet); got.IsValid() {
			t.Errorf("DynamicRange(%v): %s; want the zero Prefix", tt.subnet, got)
		}
	}
}

// Every length down to /29 is accepted and none after it, and an accepted
// subnet keeps the promise Check makes: the gateway and the bundle are hosts of
// the subnet that can't be handed out, and something can be.
func TestCheckKeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.IntRange(0, 32).Draw(t, "length")
		subnet := netip.PrefixFrom(drawAddr(t), length).Masked()
		err := netalloc.Check(subnet)
		if (err == nil) != (length <= 29) {
			t.Fatalf("Check(%s): %v", subnet, err)
		}
		if err != nil {
			return
		}
		gateway, bundle, dynamic := netalloc.Gateway(subnet), netalloc.Bundle(subnet), netalloc.DynamicRange(subnet)
		if gateway != subnet.Addr().Next() || bundle != gateway.Next() {
			t.Fatalf("%s: gateway %s, bundle %s", subnet, gateway, bundle)
		}
		halves := modelCut(subnet, length+1)
		if dynamic != halves[1] {
			t.Fatalf("%s: dynamic range %s; want %s", subnet, dynamic, halves[1])
		}
		if !halves[0].Contains(gateway) || !halves[0].Contains(bundle) {
			t.Fatalf("%s: gateway %s or bundle %s outside the lower half %s", subnet, gateway, bundle, halves[0])
		}
		if first := dynamic.Addr(); !dynamic.Contains(first.Next()) {
			t.Fatalf("%s: nothing but the broadcast address in %s", subnet, dynamic)
		}
	})
}

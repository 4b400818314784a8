package netalloc_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

func FuzzParsePool(f *testing.F) {
	for _, text := range []string{
		"", ",", "10.112.0.0/12", "10.112.0.0/12,size=26", "base=10.112.0.0/12,size=24", "10.0.0.0/26,10.0.9.0/27,size=28",
		"10.112.0.0/12,192.168.64.0/18", " 10.0.0.64/26 , 10.0.9.0/26", "10.112.0.0/12:26", "size=24", "10.1.2.3/24",
		"fd00::/8", "::ffff:10.0.0.0/104", "0.0.0.0/0", "0.0.0.0/0,size=0", "10.0.0.0/33", "10.0.0.0/24,size=256", "base=base=10.0.0.0/24",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pool, err := netalloc.ParsePool(text)
		if err != nil {
			if pool.Len() != 0 {
				t.Fatalf("ParsePool(%q): a pool of %d subnets beside the error", text, pool.Len())
			}
			return
		}
		if pool.Len() < 1 || pool.Len() > 1<<20 {
			t.Fatalf("ParsePool(%q): %d subnets", text, pool.Len())
		}
		if err := netalloc.Check(pool.Home(text)); err != nil {
			t.Fatalf("ParsePool(%q): home is not usable: %v", text, err)
		}
		checkRoundTrip(t, pool)
	})
}

// FuzzAllocate reads a pool and the lists of prefixes from bytes, five to a
// prefix: four of address, one of kind and length.
func FuzzAllocate(f *testing.F) {
	f.Add("demo", byte(24), []byte{10, 112, 0, 0, 20}, []byte{10, 112, 3, 4, 32}, []byte{10, 0, 0, 0, 8})
	f.Add("agent-1", byte(29), []byte{192, 168, 7, 0, 24, 10, 0, 0, 0, 26}, []byte{192, 168, 7, 0, 25}, []byte{})
	f.Add("", byte(0), []byte{0, 0, 0, 0, 0}, []byte{1, 2, 3, 4, 0x40 | 32}, []byte{1, 2, 3, 4, 0x80 | 12})
	f.Add("x", byte(25), []byte{255, 255, 255, 0, 20}, []byte{255, 255, 255, 255, 32}, []byte{0, 0, 0, 0, 0})
	f.Add("caf\u00e9", byte(26), []byte{10, 0, 0, 0, 20, 10, 0, 64, 0, 20}, []byte{10, 0, 0, 0, 0xc0 | 33}, []byte{10, 0, 65, 0, 24})
	f.Fuzz(func(t *testing.T, slug string, bits byte, pool, taken, disliked []byte) {
		var list []netip.Prefix
		for chunk := range slices.Chunk(pool, 5) {
			prefix := fuzzPrefix(chunk).Masked()
			// At most 256 subnets each: the model is slow.
			if prefix.Addr().Is4() && prefix.Bits() <= int(bits) && prefix.Bits() >= int(bits)-8 && len(list) < 8 {
				list = append(list, prefix)
			}
		}
		p, err := netalloc.NewPool(int(bits), list...)
		if err != nil {
			return
		}
		checkAgainstModel(t, p, int(bits), list, slug, fuzzPrefixes(taken), fuzzPrefixes(disliked))
	})
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte{10, 112, 0, 0}, 24)
	f.Add([]byte{10, 112, 0, 1}, 24)
	f.Add([]byte{10, 112, 0, 0}, 30)
	f.Add([]byte{255, 255, 255, 248}, 29)
	f.Add([]byte{0, 0, 0, 0}, 0)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 0, 0}, 112)
	f.Add([]byte{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 64)
	f.Fuzz(func(t *testing.T, bytes []byte, bits int) {
		addr, _ := netip.AddrFromSlice(bytes)
		subnet := netip.PrefixFrom(addr, bits)
		usable := subnet.IsValid() && addr.Is4() && subnet.Masked() == subnet && bits <= 29
		if err := netalloc.Check(subnet); (err == nil) != usable {
			t.Fatalf("Check(%v): %v", subnet, err)
		} else if err != nil && err.Error() == "" {
			t.Fatalf("Check(%v): an error without text", subnet)
		}
		gateway, bundle, dynamic := netalloc.Gateway(subnet), netalloc.Bundle(subnet), netalloc.DynamicRange(subnet)
		if !usable {
			if gateway.IsValid() || bundle.IsValid() || dynamic.IsValid() {
				t.Fatalf("%v is refused but has gateway %v, bundle %v, dynamic range %v", subnet, gateway, bundle, dynamic)
			}
			return
		}
		if !subnet.Contains(gateway) || !subnet.Contains(bundle) || !subnet.Overlaps(dynamic) || gateway == bundle ||
			dynamic.Contains(gateway) || dynamic.Contains(bundle) || dynamic.Bits() != bits+1 {
			t.Fatalf("%v: gateway %v, bundle %v, dynamic range %v", subnet, gateway, bundle, dynamic)
		}
	})
}

func fuzzPrefixes(data []byte) []netip.Prefix {
	var list []netip.Prefix
	for chunk := range slices.Chunk(data[:min(len(data), 200)], 5) {
		list = append(list, fuzzPrefix(chunk))
	}
	return list
}

// fuzzPrefix reads a prefix, possibly invalid, whose last byte's two highest
// bits say whether it is IPv4 or one of three forms of IPv6.
func fuzzPrefix(data []byte) netip.Prefix {
	var b [5]byte
	copy(b[:], data)
	addr, length := netip.AddrFrom4([4]byte(b[:4])), int(b[4]&0x3f)
	switch b[4] >> 6 {
	case 1:
		return netip.PrefixFrom(netip.AddrFrom16(addr.As16()), 96+length)
	case 2:
		return netip.PrefixFrom(netip.AddrFrom16(addr.As16()), 2*length)
	case 3:
		return netip.PrefixFrom(netip.AddrFrom16([16]byte(slices.Concat(b[:], make([]byte, 11)))), 4*length)
	default:
		return netip.PrefixFrom(addr, length)
	}
}

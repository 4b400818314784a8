package netalloc_test

import (
	"cmp"
	"crypto/sha256"
	"math/big"
	"net/netip"

	"pgregory.net/rapid"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// The model says the same as the package in the slowest and plainest way: it
// lists every subnet, walks the list with big integers and asks net/netip
// whether prefixes overlap.

// modelOrder returns all subnets of the pool in the slug's order.
func modelOrder(slug string, bits int, prefixes []netip.Prefix) []netip.Prefix {
	var subnets []netip.Prefix
	for _, prefix := range prefixes {
		subnets = append(subnets, modelCut(prefix, bits)...)
	}
	digest := sha256.Sum256([]byte(slug))
	n := big.NewInt(int64(len(subnets)))
	place := new(big.Int).Mod(new(big.Int).SetBytes(digest[0:8]), n)
	stride := new(big.Int).Mod(new(big.Int).SetBytes(digest[8:16]), n)
	one := big.NewInt(1)
	for new(big.Int).GCD(nil, nil, stride, n).Cmp(one) != 0 {
		stride.Mod(stride.Add(stride, one), n)
	}
	var order []netip.Prefix
	for range subnets {
		order = append(order, subnets[place.Int64()])
		place.Mod(place.Add(place, stride), n)
	}
	return order
}

// modelCut halves the prefix until the pieces have length bits.
func modelCut(prefix netip.Prefix, bits int) []netip.Prefix {
	if prefix.Bits() == bits {
		return []netip.Prefix{prefix}
	}
	longer := prefix.Bits() + 1
	upper := prefix.Addr().As4()
	upper[(longer-1)/8] |= 0x80 >> ((longer - 1) % 8)
	return append(
		modelCut(netip.PrefixFrom(prefix.Addr(), longer), bits),
		modelCut(netip.PrefixFrom(netip.AddrFrom4(upper), longer), bits)...)
}

// modelCandidates returns the subnets that overlap nothing in taken, those
// that overlap nothing in disliked first.
func modelCandidates(order, taken, disliked []netip.Prefix) []netip.Prefix {
	var liked, rest []netip.Prefix
	for _, subnet := range order {
		switch {
		case modelOverlaps(subnet, taken):
		case modelOverlaps(subnet, disliked):
			rest = append(rest, subnet)
		default:
			liked = append(liked, subnet)
		}
	}
	return append(liked, rest...)
}

func modelOverlaps(subnet netip.Prefix, prefixes []netip.Prefix) bool {
	for _, prefix := range prefixes {
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		if subnet.Overlaps(prefix) {
			return true
		}
	}
	return false
}

// drawPool draws the arguments of a pool of at most 4 prefixes and 1024
// subnets, anywhere in the address space, together with the pool.
func drawPool(t *rapid.T) (int, []netip.Prefix, netalloc.Pool) {
	bits := rapid.IntRange(0, 29).Draw(t, "bits")
	var prefixes []netip.Prefix
	for range rapid.IntRange(1, 4).Draw(t, "prefixes") {
		length := rapid.IntRange(max(0, bits-8), bits).Draw(t, "length")
		prefix := netip.PrefixFrom(drawAddr(t), length).Masked()
		if !modelOverlaps(prefix, prefixes) {
			prefixes = append(prefixes, prefix)
		}
	}
	pool, err := netalloc.NewPool(bits, prefixes...)
	if err != nil {
		t.Fatal(err)
	}
	return bits, prefixes, pool
}

func drawAddr(t *rapid.T) netip.Addr {
	// A few values per byte, so that addresses often fall close together.
	edge := rapid.SampledFrom([]byte{0, 1, 10, 127, 128, 254, 255})
	draw := rapid.OneOf(edge, rapid.Byte())
	return netip.AddrFrom4([4]byte{draw.Draw(t, "a"), draw.Draw(t, "b"), draw.Draw(t, "c"), draw.Draw(t, "d")})
}

// drawUsed draws what an engine and a routing table may name: prefixes in and
// around the pool, IPv6 ones, mapped ones and the zero Prefix.
func drawUsed(t *rapid.T, label string, pool []netip.Prefix) []netip.Prefix {
	one := rapid.Custom(func(t *rapid.T) netip.Prefix {
		addr := drawAddr(t)
		base := rapid.SampledFrom(pool).Draw(t, "base")
		switch rapid.IntRange(0, 5).Draw(t, "where") {
		case 0: // anywhere
		case 1:
			addr = base.Addr()
		case 2:
			addr = addressIn(base, netip.MustParseAddr("255.255.255.255"))
		case 3: // just below, if there is such an address
			addr = cmp.Or(base.Addr().Prev(), addr)
		default:
			addr = addressIn(base, addr)
		}
		length := rapid.OneOf(rapid.Just(32), rapid.IntRange(20, 32), rapid.IntRange(0, 32)).Draw(t, "length")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return netip.PrefixFrom(netip.AddrFrom16(addr.As16()), 96+length)
		case 1:
			return netip.PrefixFrom(netip.AddrFrom16(addr.As16()), 3*length)
		case 2:
			return netip.PrefixFrom(netip.MustParseAddr("fd00::1"), length)
		case 3:
			return rapid.SampledFrom([]netip.Prefix{
				{}, netip.MustParsePrefix("::/0"), netip.PrefixFrom(addr, 33), netip.PrefixFrom(addr, -1),
			}).Draw(t, "odd")
		default:
			return netip.PrefixFrom(addr, length)
		}
	})
	return rapid.SliceOfN(one, 0, 40).Draw(t, label)
}

// addressIn returns the address whose network bits are the prefix's and whose
// host bits are addr's.
func addressIn(prefix netip.Prefix, addr netip.Addr) netip.Addr {
	network, host := prefix.Addr().As4(), addr.As4()
	for bit := range 32 {
		mask := byte(0x80) >> (bit % 8)
		if bit < prefix.Bits() {
			host[bit/8] = host[bit/8]&^mask | network[bit/8]&mask
		}
	}
	return netip.AddrFrom4(host)
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

package netalloc

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// defaultBits is the length of a subnet where nobody chose another.
const defaultBits = 24

// maxSubnets bounds what a pool may be cut into. The set of taken subnets is a
// bitmap, 128 KiB at this bound.
const maxSubnets = 1 << 20

// Pool is a list of IPv4 prefixes cut into equal subnets.
//
// The zero Pool has no subnets. A Pool never changes, is cheap to copy and is
// safe for concurrent use.
type Pool struct {
	bits   uint8
	count  uint32
	blocks []block // in the order given; subnets are numbered along it
	sorted []block // the same blocks by address
}

// block is one prefix of a pool: the subnets from number first on, covering
// the addresses from low to high, both included.
type block struct {
	prefix    netip.Prefix
	low, high uint32
	first     uint32
}

// NewPool returns the pool of the given IPv4 prefixes, cut into subnets of
// length bits. The order of the prefixes matters: it numbers the subnets.
//
// It refuses an empty list, bits outside 0 to 29 (see [Check]), a prefix that
// is invalid, not IPv4 or has host bits set (a wrapped [*SubnetError]), a
// prefix longer than bits, prefixes that overlap, and more than 1048576
// subnets.
func NewPool(bits int, prefixes ...netip.Prefix) (Pool, error) {
	p, err := newPool(bits, prefixes)
	if err != nil {
		return Pool{}, fmt.Errorf("pool: %w", err)
	}
	return p, nil
}

// DefaultPool returns 10.112.0.0/12 cut into 4096 subnets of length 24. It is
// clear of the ranges Docker, Podman, Kubernetes, the large clouds and common
// home routers use by default.
func DefaultPool() Pool {
	p, err := newPool(defaultBits, []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 112, 0, 0}), 12),
	})
	if err != nil {
		panic("netalloc: default pool: " + err.Error())
	}
	return p
}

// Len returns the number of subnets.
func (p Pool) Len() int { return int(p.count) }

// Bits returns the length of each subnet, 24 for a /24. It is 0 for the zero
// Pool.
func (p Pool) Bits() int { return int(p.bits) }

func newPool(bits int, prefixes []netip.Prefix) (Pool, error) {
	if len(prefixes) == 0 {
		return Pool{}, errors.New("no prefix given")
	}
	if bits < 0 || bits > 32 {
		return Pool{}, fmt.Errorf("%d is not the length of an IPv4 subnet", bits)
	}
	if bits > maxBits {
		return Pool{}, fmt.Errorf("subnets of length /%d are too small: %s", bits, roomReason)
	}
	p := Pool{bits: uint8(bits), blocks: make([]block, 0, len(prefixes))}
	count := uint64(0)
	for _, prefix := range prefixes {
		if err := checkNetwork(prefix); err != nil {
			return Pool{}, err
		}
		if prefix.Bits() > bits {
			return Pool{}, fmt.Errorf("prefix %s is smaller than one /%d subnet", prefix, bits)
		}
		low, high, _ := addressRange(prefix)
		p.blocks = append(p.blocks, block{prefix: prefix, low: low, high: high, first: uint32(count)})
		count += 1 << (bits - prefix.Bits())
		if count > maxSubnets {
			return Pool{}, fmt.Errorf("more than %d subnets of length /%d: give smaller prefixes or larger subnets", maxSubnets, bits)
		}
	}
	p.count = uint32(count)
	p.sorted = slices.SortedFunc(slices.Values(p.blocks), func(a, b block) int { return cmp.Compare(a.low, b.low) })
	for i, b := range p.sorted[1:] {
		if before := p.sorted[i]; b.low <= before.high {
			return Pool{}, fmt.Errorf("prefixes %s and %s overlap", before.prefix, b.prefix)
		}
	}
	return p, nil
}

// subnet returns subnet number i, which must be less than p.count.
func (p Pool) subnet(i uint32) netip.Prefix {
	at, found := slices.BinarySearchFunc(p.blocks, i, func(b block, i uint32) int { return cmp.Compare(b.first, i) })
	if !found {
		at--
	}
	b := p.blocks[at]
	return netip.PrefixFrom(addrFrom(b.low+(i-b.first)<<p.hostBits()), int(p.bits))
}

func (p Pool) hostBits() uint8 { return 32 - p.bits }

// addressRange returns the first and last address of a prefix, whether or not
// its host bits are zero. An IPv4-mapped IPv6 prefix (RFC 4291, 2.5.5.2) of
// length 96 or more stands for the IPv4 prefix it maps; ok is false for every
// other IPv6 prefix and for an invalid one.
func addressRange(prefix netip.Prefix) (low, high uint32, ok bool) {
	addr, bits := prefix.Addr(), prefix.Bits()
	if addr.Is4In6() {
		addr, bits = addr.Unmap(), bits-96
	}
	if !addr.Is4() || bits < 0 {
		return 0, 0, false
	}
	a := number(addr)
	host := ^uint32(0) >> bits
	return a &^ host, a | host, true
}

// number returns an IPv4 address as an integer, its first byte the highest.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addrFrom(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

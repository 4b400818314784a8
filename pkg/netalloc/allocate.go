package netalloc

import (
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
	"sort"
)

// Allocate returns the subnet the slug should have: the first in its order
// that overlaps neither list; failing that, the first that overlaps nothing in
// taken. Disliked prefixes are those worth avoiding but not forbidden, such as
// the route of a VPN that covers the whole pool.
//
// The lists may hold anything a routing table can. Host bits are ignored, an
// IPv4-mapped IPv6 prefix counts as the IPv4 prefix it maps, and prefixes that
// are invalid or IPv6 overlap nothing.
//
// The error is an [*ExhaustedError].
func (p Pool) Allocate(slug string, taken, disliked []netip.Prefix) (netip.Prefix, error) {
	for subnet := range p.Candidates(slug, taken, disliked) {
		return subnet, nil
	}
	return netip.Prefix{}, &ExhaustedError{Pool: p, Taken: p.overlapping(taken).len()}
}

// Candidates returns every subnet of the pool that overlaps nothing in taken,
// in the order in which [Pool.Allocate] prefers them: those that overlap
// nothing in disliked first, each group in the slug's order. A caller whose
// first choice turns out to be in use goes on to the next.
//
// The lists are read before Candidates returns and are not kept.
func (p Pool) Candidates(slug string, taken, disliked []netip.Prefix) iter.Seq[netip.Prefix] {
	used, avoided := p.overlapping(taken), p.overlapping(disliked)
	liked, lessLiked := p.none(), p.none()
	if p.count > 0 {
		liked.add(0, p.count-1)
	}
	for i := range used {
		liked[i] &^= used[i] | avoided[i]
		lessLiked[i] = avoided[i] &^ used[i]
	}
	return func(yield func(netip.Prefix) bool) {
		for _, group := range [...]subnetSet{liked, lessLiked} {
			left := group.len()
			if left == 0 {
				continue
			}
			for i := range p.walk(slug) {
				if !group.has(i) {
					continue
				}
				if !yield(p.subnet(i)) {
					return
				}
				if left--; left == 0 {
					break
				}
			}
		}
	}
}

// ExhaustedError says that no subnet of a pool is left.
type ExhaustedError struct {
	Pool  Pool
	Taken int // subnets of the pool that overlap something in use
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("pool %s: no free /%d subnet, %d of %d are in use: take down bottles that are no longer needed, or use a larger pool",
		e.Pool, e.Pool.Bits(), e.Taken, e.Pool.Len())
}

// overlapping returns the subnets of the pool that overlap any of prefixes.
func (p Pool) overlapping(prefixes []netip.Prefix) subnetSet {
	set, hostBits := p.none(), p.hostBits()
	for _, prefix := range prefixes {
		low, high, ok := addressRange(prefix)
		if !ok {
			continue
		}
		at := sort.Search(len(p.sorted), func(i int) bool { return p.sorted[i].high >= low })
		for ; at < len(p.sorted) && p.sorted[at].low <= high; at++ {
			b := &p.sorted[at]
			from := (max(low, b.low) - b.low) >> hostBits
			to := (min(high, b.high) - b.low) >> hostBits
			set.add(b.first+from, b.first+to)
		}
	}
	return set
}

// subnetSet is a set of subnet numbers, one bit each.
type subnetSet []uint64

// none returns an empty set with room for the numbers of the pool's subnets.
func (p Pool) none() subnetSet { return make(subnetSet, (p.count+63)/64) }

// add puts the numbers from first to last, both included, into the set.
func (s subnetSet) add(first, last uint32) {
	head := ^uint64(0) << (first % 64)
	tail := ^uint64(0) >> (63 - last%64)
	i, end := first/64, last/64
	if i == end {
		s[i] |= head & tail
		return
	}
	s[i] |= head
	for i++; i < end; i++ {
		s[i] = ^uint64(0)
	}
	s[end] |= tail
}

func (s subnetSet) has(i uint32) bool {
	return s[i/64]>>(i%64)&1 != 0
}

func (s subnetSet) len() int {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

package netalloc

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"net/netip"
)

// Home returns the first subnet of the slug's order, the zero Prefix if the
// pool is the zero Pool. It does not allocate. Any string is a slug here: it
// is taken byte for byte, and whether it makes a good name is decided
// elsewhere.
func (p Pool) Home(slug string) netip.Prefix {
	if p.count == 0 {
		return netip.Prefix{}
	}
	return p.subnet(place(digest(slug)[0], p.count))
}

// Order returns every subnet of the pool exactly once, the slug's home first.
// The package documentation defines the order.
func (p Pool) Order(slug string) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for i := range p.walk(slug) {
			if !yield(p.subnet(i)) {
				return
			}
		}
	}
}

// walk returns the numbers of the pool's subnets in the slug's order.
func (p Pool) walk(slug string) iter.Seq[uint32] {
	words := digest(slug)
	return walk(words[0], words[1], p.count)
}

// digest returns the SHA-256 of the slug as four big-endian integers.
func digest(slug string) [4]uint64 {
	// A slug that fits is hashed on the stack; append moves a longer one to
	// the heap.
	var stack [64]byte
	sum := sha256.Sum256(append(stack[:0], slug...))
	var words [4]uint64
	for i := range words {
		words[i] = binary.BigEndian.Uint64(sum[8*i:])
	}
	return words
}

// walk visits each of n places once, starting and striding as two words of a
// digest say. n is small enough that the sum of two places fits a uint32.
func walk(start, stride uint64, n uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		if n == 0 {
			return
		}
		at, step := place(start, n), place(stride, n)
		for gcd(step, n) != 1 {
			step = (step + 1) % n
		}
		for range n {
			if !yield(at) {
				return
			}
			at += step
			if at >= n {
				at -= n
			}
		}
	}
}

// place reduces a word to one of n places. With n at most 2^20 the bias of the
// remainder is below 2^-44.
func place(word uint64, n uint32) uint32 {
	return uint32(word % uint64(n))
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

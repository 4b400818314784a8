package netalloc

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParsePool reads a pool from text: prefixes separated by commas, and
// optionally size=N, the length of the subnets.
//
//	10.112.0.0/12                        4096 subnets of length 24
//	10.112.0.0/12,size=26                16384 subnets of length 26
//	10.112.0.0/12,192.168.64.0/18        4096 + 64 subnets of length 24
//	192.168.7.64/26                      that one subnet
//	base=10.112.0.0/12,size=24           as dockerd's --default-address-pool
//
// Without size, subnets have length 24. Prefixes longer than that are subnets
// as they stand if all have the same length; if not, size must be given. A
// prefix may be written base=PREFIX, and size may be repeated if it is the
// same each time, so dockerd's settings for several pools can be joined with
// commas. Space around commas is ignored. Everything [NewPool] refuses is
// refused here.
func ParsePool(s string) (Pool, error) {
	p, err := parsePool(s)
	if err != nil {
		return Pool{}, fmt.Errorf("pool %q: %w", s, err)
	}
	return p, nil
}

// String returns the pool in the form [ParsePool] reads, with size only where
// it is needed. The zero Pool is "invalid Pool", which ParsePool refuses.
func (p Pool) String() string {
	if p.count == 0 {
		return "invalid Pool"
	}
	var text strings.Builder
	prefixes := make([]netip.Prefix, len(p.blocks))
	for i, b := range p.blocks {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(b.prefix.String())
		prefixes[i] = b.prefix
	}
	if bits, err := impliedBits(prefixes); err != nil || bits != p.Bits() {
		fmt.Fprintf(&text, ",size=%d", p.bits)
	}
	return text.String()
}

func parsePool(s string) (Pool, error) {
	if strings.TrimSpace(s) == "" {
		return Pool{}, errors.New("is empty: give a prefix such as 10.112.0.0/12")
	}
	var prefixes []netip.Prefix
	size := -1
	for field := range strings.SplitSeq(s, ",") {
		field = strings.TrimSpace(field)
		if text, ok := strings.CutPrefix(field, "size="); ok {
			n, err := strconv.ParseUint(text, 10, 8)
			if err != nil {
				return Pool{}, fmt.Errorf("size %q is not a prefix length such as 24", text)
			}
			if size >= 0 && size != int(n) {
				return Pool{}, fmt.Errorf("size=%d and size=%d: all subnets of a pool have the same length", size, n)
			}
			size = int(n)
			continue
		}
		prefix, err := parsePrefix(strings.TrimPrefix(field, "base="))
		if err != nil {
			return Pool{}, err
		}
		prefixes = append(prefixes, prefix)
	}
	if size < 0 {
		bits, err := impliedBits(prefixes)
		if err != nil {
			return Pool{}, err
		}
		size = bits
	}
	return newPool(size, prefixes)
}

func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err == nil {
		return prefix, nil
	}
	if base, size, ok := strings.Cut(s, ":"); ok {
		if _, err := netip.ParsePrefix(base); err == nil {
			return netip.Prefix{}, fmt.Errorf("%q is not a prefix: did you mean %s,size=%s?", s, base, size)
		}
	}
	return netip.Prefix{}, fmt.Errorf("%q is neither a prefix such as 10.112.0.0/12 nor size=N", s)
}

// impliedBits returns the subnet length that prefixes have when no size is
// given with them.
func impliedBits(prefixes []netip.Prefix) (int, error) {
	longest, equal := 0, true
	for _, prefix := range prefixes {
		longest = max(longest, prefix.Bits())
		equal = equal && prefix.Bits() == prefixes[0].Bits()
	}
	if longest <= defaultBits {
		return defaultBits, nil
	}
	if !equal {
		return 0, fmt.Errorf("prefixes of different lengths, one longer than /%d: add size=%d or longer to say how to cut them", defaultBits, longest)
	}
	return longest, nil
}

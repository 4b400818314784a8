package netalloc

import (
	"iter"
	"net/netip"
)

// Loopback addresses come from 127.16.0.0/12, without those that end in 0 or
// 255. That is clear of
//
//   - 127.0.0.0/8's low end: localhost, the host name at 127.0.1.1 on Debian,
//     systemd-resolved at 127.0.0.53 and .54, aliases made by hand;
//   - 127.127.0.0/16, which ntpd reads as reference clocks;
//   - 127.192.0.0/10, which Tor maps names into.
const (
	loopbackBase     = 127<<24 | 16<<16
	loopbackBlocks   = 1 << 12 // of 256 addresses
	loopbackPerBlock = 254
	loopbackCount    = loopbackBlocks * loopbackPerBlock
)

// LoopbackHome returns the first address of [LoopbackOrder] without
// allocating.
func LoopbackHome(slug string) netip.Addr {
	return loopback(place(digest(slug)[2], loopbackCount))
}

// LoopbackOrder returns each of 1040384 loopback addresses exactly once, the
// slug's home first: those of 127.16.0.0/12 that do not end in 0 or 255. The
// package documentation defines the order. It does not depend on the order of
// the slug's subnets.
//
// Linux answers on all of 127.0.0.0/8; macOS only on addresses that were added
// to its loopback interface.
func LoopbackOrder(slug string) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		words := digest(slug)
		for i := range walk(words[2], words[3], loopbackCount) {
			if !yield(loopback(i)) {
				return
			}
		}
	}
}

// loopback returns loopback address number i, which must be less than
// loopbackCount.
func loopback(i uint32) netip.Addr {
	return addrFrom(loopbackBase + i/loopbackPerBlock<<8 + i%loopbackPerBlock + 1)
}

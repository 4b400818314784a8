package bundle

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"

	"github.com/vishvananda/netlink"
)

// engineBridge matches the names of the bridges that Docker makes. Their routes belong to
// networks, of which the engine's own list tells; taking them from here would, while
// another client creates this very network, mistake its route for somebody else's.
var engineBridge = regexp.MustCompile(`^(docker0|br-[0-9a-f]{12})$`)

// hostRoutes returns the prefixes that a subnet of the given length must not overlap, and
// those that it had better not be inside of: a broader route, as of a VPN that claims all
// of 10.0.0.0/8, must not make a pool unusable.
func (l *Lifecycle) hostRoutes(bits int) (taken, disliked []netip.Prefix, err error) {
	if !l.Local {
		return nil, nil, nil
	}
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, nil, fmt.Errorf("list this machine's routes: %w", err)
	}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("list this machine's network interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	for _, route := range routes {
		if route.Dst == nil || engineBridge.MatchString(names[route.LinkIndex]) {
			continue
		}
		address, ok := netip.AddrFromSlice(route.Dst.IP)
		ones, _ := route.Dst.Mask.Size()
		if !ok || ones == 0 {
			continue // the default route says nothing about any subnet
		}
		prefix := netip.PrefixFrom(address.Unmap(), ones)
		if ones >= bits {
			taken = append(taken, prefix)
		} else {
			disliked = append(disliked, prefix)
		}
	}
	return taken, disliked, nil
}

// dumps is how often the kernel is asked for a list that keeps changing. Every network and
// every container that the engine starts changes it.
const dumps = 10

// dump lists what the kernel has. A list that changed while it was read may be incomplete
// (NLM_F_DUMP_INTR, netlink(7)), so it is read again; if it changes all the time, the last
// one has to do, since the engine checks for collisions of its own as well.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range dumps - 1 {
		found, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return found, err
		}
	}
	found, err := list()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return found, err
}

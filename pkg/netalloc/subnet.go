package netalloc

import (
	"fmt"
	"net/netip"
)

// maxBits is the longest prefix with a host number 1 and 2 in its lower half
// and, in its upper half, an address that is not the broadcast address.
const maxBits = 29

const roomReason = "the gateway, the bundle and a dynamic address in the upper half need a /29 or larger"

// Host numbers in a bottle's subnet.
const (
	gatewayHost = 1
	bundleHost  = 2
)

// Check returns nil if a bottle can use the subnet: it is IPv4, has no host
// bits set, and has room for the gateway, the bundle and at least one dynamic
// address in its upper half, which makes /29 the longest. Otherwise it returns
// a [*SubnetError]. What the range is otherwise used for is not looked at.
func Check(subnet netip.Prefix) error {
	if err := checkNetwork(subnet); err != nil {
		return err
	}
	if subnet.Bits() > maxBits {
		return &SubnetError{Prefix: subnet, Reason: "is too small: " + roomReason}
	}
	return nil
}

// Gateway returns the gateway's address in the subnet, host number 1. It is
// the zero Addr if [Check] refuses the subnet.
func Gateway(subnet netip.Prefix) netip.Addr { return host(subnet, gatewayHost) }

// Bundle returns the bundle's address in the subnet, host number 2. It is the
// zero Addr if [Check] refuses the subnet.
func Bundle(subnet netip.Prefix) netip.Addr { return host(subnet, bundleHost) }

// DynamicRange returns the upper half of the subnet, from which the engine may
// hand out addresses: 10.112.0.128/25 of 10.112.0.0/24. The last address in it
// is the subnet's broadcast address. It is the zero Prefix if [Check] refuses
// the subnet.
func DynamicRange(subnet netip.Prefix) netip.Prefix {
	if Check(subnet) != nil {
		return netip.Prefix{}
	}
	bits := subnet.Bits() + 1
	middle := number(subnet.Addr()) | 1<<(32-bits)
	return netip.PrefixFrom(addrFrom(middle), bits)
}

// SubnetError says why a prefix cannot be used.
type SubnetError struct {
	Prefix netip.Prefix
	Reason string // a predicate that reads on from the prefix: "is not IPv4"
}

func (e *SubnetError) Error() string {
	if !e.Prefix.IsValid() {
		return "the prefix given " + e.Reason
	}
	return e.Prefix.String() + " " + e.Reason
}

// checkNetwork reports as a [*SubnetError] what keeps a prefix from being an
// IPv4 network of any size.
func checkNetwork(prefix netip.Prefix) error {
	if !prefix.IsValid() {
		return &SubnetError{Prefix: prefix, Reason: "is not valid"}
	}
	if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
		v4 := netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96).Masked()
		return &SubnetError{Prefix: prefix, Reason: fmt.Sprintf("is an IPv4-mapped IPv6 prefix: did you mean %s?", v4)}
	} else if !addr.Is4() {
		return &SubnetError{Prefix: prefix, Reason: "is IPv6: an IPv4 prefix is needed"}
	}
	if masked := prefix.Masked(); masked != prefix {
		return &SubnetError{Prefix: prefix, Reason: fmt.Sprintf("is not a network address: did you mean %s?", masked)}
	}
	return nil
}

func host(subnet netip.Prefix, n uint32) netip.Addr {
	if Check(subnet) != nil {
		return netip.Addr{}
	}
	return addrFrom(number(subnet.Addr()) + n)
}

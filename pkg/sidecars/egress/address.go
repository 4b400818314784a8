package egress

import (
	"encoding/binary"
	"net/netip"
)

// block is a range of addresses that a name may not lead to by itself.
type block struct {
	prefix netip.Prefix
	what   string
}

// specialBlock returns the narrowest block that holds a.
func specialBlock(a netip.Addr) (block, bool) {
	var found block
	for _, b := range specialBlocks {
		if b.prefix.Contains(a) && (!found.prefix.IsValid() || b.prefix.Bits() > found.prefix.Bits()) {
			found = b
		}
	}
	return found, found.prefix.IsValid()
}

// embeddedIPv4 returns the IPv4 address that a translator or tunnel would send
// to for a: IPv4-mapped and -compatible (RFC 4291), IPv4-translated (RFC 2765),
// NAT64 (RFC 6052, RFC 8215; taken as /96), 6to4 (RFC 3056) and Teredo
// (RFC 4380, the client's address, stored inverted).
func embeddedIPv4(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	raw := a.As16()
	low := binary.BigEndian.Uint32(raw[12:])
	switch {
	case prefix6to4.Contains(a):
		return netip.AddrFrom4([4]byte(raw[2:6])), true
	case prefixTeredo.Contains(a):
		low = ^low
	case a.Is4In6(), prefixCompatible.Contains(a) && low > 1, prefixTranslated.Contains(a),
		prefixNAT64.Contains(a), prefixNAT64Local.Contains(a):
	default:
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, low))), true
}

var (
	prefix6to4       = netip.MustParsePrefix("2002::/16")
	prefixTeredo     = netip.MustParsePrefix("2001::/32")
	prefixCompatible = netip.MustParsePrefix("::/96")
	prefixTranslated = netip.MustParsePrefix("::ffff:0:0:0/96")
	prefixNAT64      = netip.MustParsePrefix("64:ff9b::/96")
	prefixNAT64Local = netip.MustParsePrefix("64:ff9b:1::/48")
)

// specialBlocks is the IANA registries of special-purpose addresses (IPv4,
// IPv6: RFC 6890 and its updates) as far as they are not globally reachable,
// multicast, everything outside IPv6's 2000::/3, and the addresses at which
// cloud providers hand out credentials to whoever can reach them.
var specialBlocks = []block{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified or \"this network\""},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},

	{netip.MustParsePrefix("169.254.169.254/32"), "cloud metadata"},
	{netip.MustParsePrefix("169.254.170.2/32"), "container credentials"},
	{netip.MustParsePrefix("169.254.170.23/32"), "container credentials"},
	{netip.MustParsePrefix("100.100.100.200/32"), "cloud metadata"},
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud platform"},
	{netip.MustParsePrefix("192.0.0.192/32"), "cloud metadata"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "cloud metadata"},
	{netip.MustParsePrefix("fd00:ec2::23/128"), "container credentials"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "cloud metadata"},

	{netip.MustParsePrefix("::/3"), "not global unicast"},
	{netip.MustParsePrefix("4000::/2"), "not global unicast"},
	{netip.MustParsePrefix("8000::/1"), "not global unicast"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{prefixCompatible, "IPv4-compatible"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped"},
	{prefixTranslated, "IPv4-translated"},
	{prefixNAT64, "NAT64"},
	{prefixNAT64Local, "NAT64"},
	{netip.MustParsePrefix("100::/64"), "discard-only"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments"},
	{prefixTeredo, "Teredo"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{prefix6to4, "6to4"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing"},
	{netip.MustParsePrefix("fc00::/7"), "unique local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

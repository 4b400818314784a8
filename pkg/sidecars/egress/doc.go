// Package egress is the default bundle's forward proxy: the one way out of a
// bottle, closed except for what its allowlist names.
//
// It serves plain HTTP requests in absolute form and CONNECT tunnels, built on
// goproxy. Every request passes the same stations:
//
//  1. vet.go, conn.go, framing.go: the bytes of each request header block are
//     checked before net/http parses them, because a parser that repairs what
//     it reads leaves nothing to judge afterwards.
//  2. host.go, rules.go: the target is brought to its one normal form and
//     looked up in the allowlist. A name without a rule is never resolved: a
//     DNS query is a message to whoever runs the zone.
//  3. address.go, dial.go: an allowed name is resolved once, each address is
//     checked, and exactly a checked address is dialled.
//  4. forward.go for HTTP, tunnel.go and sni.go for CONNECT.
//  5. audit.go, metrics.go: one line and a few counts for each.
//
// The proxy never intercepts TLS. What a tunnel carries after its ClientHello
// is between the guest and the allowed server.
package egress

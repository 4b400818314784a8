// Package netalloc turns a bottle's slug into addresses.
//
// It is arithmetic on IPv4 addresses and nothing else: it opens no socket,
// keeps no state and knows no engine. The same slug and pool give the same
// answer on every machine, so an allowlist can be written before anything
// runs.
//
// # Subnets
//
// A [Pool] is a list of prefixes cut into equal subnets. Every slug has its
// own fixed order over all subnets of a pool ([Pool.Order]): the first is its
// home ([Pool.Home]), the rest are where it goes when its home is taken.
// [Pool.Allocate] picks the first one that overlaps nothing in use.
//
// In a subnet the gateway is host number 1 ([Gateway]), the bundle is host
// number 2 ([Bundle]), and dynamic addresses come from the upper half only
// ([DynamicRange]), so no other container is ever handed the bundle's address.
// A subnet has room for this down to /29 ([Check]).
//
// # Loopback addresses
//
// Where a guest can only reach its bundle through a port published on the
// host, each bottle publishes on a loopback address of its own:
// [LoopbackHome] and [LoopbackOrder].
//
// # The order
//
// The order is a promise: it does not change between releases, and any
// language can compute it. It is double hashing, an arithmetic walk whose
// start and stride both come from the slug.
//
//	w0 w1 w2 w3  the SHA-256 digest (FIPS 180-4) of the slug's bytes, read as
//	             four big-endian unsigned 64-bit integers
//	n            how many places there are
//	start        w0 mod n
//	stride       the first of r, r+1, r+2, ... (each mod n), for r = w1 mod n,
//	             that has no common divisor with n but 1; gcd(0, n) is n
//	place k      (start + k*stride) mod n, for k = 0, 1, ... n-1
//
// For a pool, place i is subnet i, counted through the pool's prefixes in the
// order they were given and upwards inside each.
//
// For loopback, w2 and w3 stand in for w0 and w1, n is 4096*254 = 1040384, and
// place i is the address 127.16.0.0 + 256*(i div 254) + (i mod 254) + 1.
//
// A stride with no divisor in common with n visits every place once. Two slugs
// that share a home rarely share a stride as well, so they part at their
// second choice. testdata/order.py is this text as a program, and wrote the
// golden file the tests compare with.
package netalloc

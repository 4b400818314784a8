"""The order of addresses as the package documentation defines it.

    python3 order.py > order.jsonl

Each line of the output is one slug and one pool: the pool's prefixes in
order, the length of its subnets, and the first places of the slug's order.
The pool "loopback" is the order of loopback addresses. The slugs and pools
below may be added to. What the file says about those it has may not change.
"""

import hashlib
import ipaddress
import json
import math

FIRST = 6

POOLS = [
    (["10.112.0.0/12"], 24),
    (["10.112.0.0/12"], 26),
    (["172.20.0.0/16", "192.168.64.0/18", "10.5.0.0/24"], 24),
    (["10.64.0.0/10", "172.16.0.0/15"], 29),
    (["192.168.7.0/29"], 29),
    (["255.255.255.0/24"], 25),
]

SLUGS = (
    ["", "a", "demo", "demo2", "test", "DEMO", "0", "1", "agent", "claude", "codex", "-x", "../x"]
    + [f"agent-{n}" for n in range(1, 25)]
    + ["alice.review", "bob_fix-login", "issue-4711", "feature.payment-v2", "3f9a2c7e", "b7d1e0c4"]
    + ["researcher-a1b2c", "implementer-zq8x4", "nightly-2026-01-31", "pr.1234", "a_b.c-d", "x" * 31, "x" * 32]
    + ["y" * 55, "y" * 56, "z" * 63, "z" * 64, "long-" * 40, "caf\u00e9", "\u74f6\u5b50", "a\x00b", "two words"]
)


def words(slug):
    digest = hashlib.sha256(slug.encode()).digest()
    return [int.from_bytes(digest[i : i + 8], "big") for i in range(0, 32, 8)]


def order(start, stride, n):
    start, stride = start % n, stride % n
    while math.gcd(stride, n) != 1:
        stride = (stride + 1) % n
    for k in range(n):
        yield (start + k * stride) % n


def subnet(prefixes, bits, i):
    for prefix in map(ipaddress.IPv4Network, prefixes):
        size = 1 << (bits - prefix.prefixlen)
        if i < size:
            return str(ipaddress.IPv4Network((int(prefix.network_address) + (i << (32 - bits)), bits)))
        i -= size


def loopback(i):
    return str(ipaddress.IPv4Address("127.16.0.0") + 256 * (i // 254) + i % 254 + 1)


def first(places):
    return [place for place, _ in zip(places, range(FIRST))]


for slug in SLUGS:
    w = words(slug)
    for prefixes, bits in POOLS:
        n = sum(1 << (bits - ipaddress.IPv4Network(p).prefixlen) for p in prefixes)
        places = [subnet(prefixes, bits, i) for i in first(order(w[0], w[1], n))]
        print(json.dumps({"slug": slug, "pool": ",".join(prefixes), "bits": bits, "order": places}))
    places = [loopback(i) for i in first(order(w[2], w[3], 4096 * 254))]
    print(json.dumps({"slug": slug, "pool": "loopback", "bits": 32, "order": places}))

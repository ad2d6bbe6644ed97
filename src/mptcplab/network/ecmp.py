"""Which of several equal ways a router takes: the hash of Linux, so that both testbeds agree.

A router hashes the addresses of a packet, and with the policy "ports" also the ports, under a seed
of its own, and the hash chooses among its next hops (ECMP, RFC 2992 section 2.1, "modulo-N" by
ranges). Layout and arithmetic are those of Linux with ``net.ipv4.fib_multipath_hash_seed`` (6.11):
``fib_multipath_hash`` in net/ipv4/route.c, ``__flow_hash_from_keys`` in net/core/flow_dissector.c,
``fib_select_multipath`` in net/ipv4/fib_semantics.c. Both directions of a flow have the same hash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from zlib import crc32

Ports = tuple[int, int]
"""Source and destination port."""
Address = IPv4Address | IPv6Address

_U32: Final = (1 << 32) - 1
_U64: Final = (1 << 64) - 1
_KEYS: Final = struct.Struct("<HBx I 16x I HH 4x".replace(" ", ""))
_TCP: Final = 6


def router_seed(seed: int, router: str) -> int:
    """Return a router's hash seed, 1 to 2^32 - 1, from that of a run."""
    return crc32(f"{seed} {router}".encode()) or 1


@dataclass(frozen=True, slots=True)
class Fields:
    """What of a packet a hash may cover; no ``ports`` count as ports of 0."""

    source: Address
    destination: Address
    ports: Ports | None = None

    def hash(self, seed: int, by_ports: bool) -> int:
        """Return the hash of the addresses, and if it is ``by_ports`` of the ports as well."""
        covered = (self.ports or (0, 0)) if by_ports else None
        return flow_hash(seed, self.source, self.destination, covered)


def flow_hash(seed: int, source: Address, destination: Address, ports: Ports | None) -> int:
    """Return Linux's 31-bit multipath hash of a TCP flow; without ports, of its addresses.

    Those are its policies 3 (with the fields of the five-tuple) and 0.
    """
    one, other = source.packed, destination.packed
    # IPv4's are compared as the machine's own numbers, which are little-endian
    if (other[::-1] < one[::-1]) if source.version == 4 else (other < one):
        one, other = other, one
    low, high = (0, 0) if ports is None else sorted(map(_swapped, ports))
    protocol = 0 if ports is None and source.version == 4 else _TCP
    keys = _KEYS.pack(0, protocol, 0, 0, low, high) + one + other + bytes(4)
    half = seed << 32 | seed
    value = (siphash(half, half, keys) & 0xFFFFFFFF) or 1
    return (value if ports is None else _mixed(value)) >> 1


def _mixed(value: int) -> int:
    """Return jhash_2words(value, 0, 0): what policy 3 makes of the hash of an outer header."""
    start = 0xDEADBEEF + (2 << 2)
    a, b, c = value + start & _U32, start, start
    for turn in (14, 11, 25, 16, 4, 14, 24):  # __jhash_final, include/linux/jhash.h
        c = (c ^ b) - (b << turn | b >> 32 - turn) & _U32
        a, b, c = b, c, a
    return b


def chosen(value: int, count: int) -> int:
    """Return which of ``count`` next hops a hash falls to, each having an equal range."""
    for place in range(count):
        if value <= ((place + 1 << 31) + count // 2) // count - 1:
            return place
    return count - 1


def _swapped(port: int) -> int:
    """Return a port as a little-endian machine reads it off the wire."""
    return (port & 0xFF) << 8 | port >> 8


def siphash(key0: int, key1: int, message: bytes) -> int:
    """Return SipHash-2-4 (Aumasson and Bernstein, 2012) of a message under two 64-bit keys."""
    state = (
        key0 ^ 0x736F6D6570736575,
        key1 ^ 0x646F72616E646F6D,
        key0 ^ 0x6C7967656E657261,
        key1 ^ 0x7465646279746573,
    )
    for word in _words(message):
        v0, v1, v2, v3 = _rounds((*state[:3], state[3] ^ word), 2)
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = _rounds((*state[:2], state[2] ^ 0xFF, state[3]), 4)
    return v0 ^ v1 ^ v2 ^ v3


def _words(message: bytes) -> Iterator[int]:
    """Yield a message as 64-bit words, the last with its length in the highest byte."""
    whole = len(message) // 8 * 8
    for (word,) in struct.iter_unpack("<Q", message[:whole]):
        yield word
    yield int.from_bytes(message[whole:], "little") | (len(message) & 0xFF) << 56


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = v0 + v1 & _U64
        v1 = (v1 << 13 | v1 >> 51) & _U64 ^ v0
        v0 = (v0 << 32 | v0 >> 32) & _U64
        v2 = v2 + v3 & _U64
        v3 = (v3 << 16 | v3 >> 48) & _U64 ^ v2
        v0 = v0 + v3 & _U64
        v3 = (v3 << 21 | v3 >> 43) & _U64 ^ v0
        v2 = v2 + v1 & _U64
        v1 = (v1 << 17 | v1 >> 47) & _U64 ^ v2
        v2 = (v2 << 32 | v2 >> 32) & _U64
    return v0, v1, v2, v3

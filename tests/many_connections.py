"""A capture of many short connections, each of two subflows that share its data."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random

from tests.unit.trace import packets as build

from mptcplab.wire.keys import join_hmac, token_and_idsn

MS = 10**6
SERVER = "192.0.2.1"
_SIZE = 1400


def capture(count: int, rounds: int = 6, seed: int = 1) -> bytes:
    """Return ``count`` connections, each with ``rounds`` round trips of data on two subflows."""
    random = Random(seed)
    rows = []
    for number in range(count):
        start_ns = number * 3 * MS
        rows += [(start_ns + at, packet) for at, packet in _connection(number, rounds, random)]
    rows.sort(key=lambda row: row[0])
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 128, 1)]
    for when, packet in rows:
        seconds, rest = divmod(1_700_000_000 * 10**9 + when, 10**9)
        kept = packet[:128]
        out.append(struct.pack("<IIII", seconds, rest, len(kept), len(packet)) + kept)
    return b"".join(out)


def _connection(number: int, rounds: int, random: Random) -> Iterator[tuple[int, bytes]]:
    hosts = [f"10.{side}.{number >> 8}.{number & 255}" for side in (0, 1)]
    keys = random.getrandbits(64), random.getrandbits(64)
    nonces = random.getrandbits(32), random.getrandbits(32)
    (_, idsn), (token, idsn_back) = token_and_idsn(keys[0]), token_and_idsn(keys[1])
    theirs = join_hmac(keys[1], keys[0], nonces[1], nonces[0])
    ours = join_hmac(keys[0], keys[1], nonces[0], nonces[1])
    options = (
        (build.capable(), build.capable(keys[1]), build.capable(*keys)),
        (
            bytes((30, 12, 0x10, 1)) + struct.pack(">II", token, nonces[0]),
            bytes((30, 16, 0x10, 0)) + theirs[:8] + struct.pack(">I", nonces[1]),
            bytes((30, 24, 0x10, 0)) + ours[:20],
        ),
    )
    first = (random.getrandbits(31), random.getrandbits(31))

    def packet(
        path: int, side: int, seq: int, ack: int, flags: int, option: bytes, size: int = 0
    ) -> bytes:
        ends = (hosts[path], SERVER) if side == 0 else (SERVER, hosts[path])
        ports = (2000 + path, 80) if side == 0 else (80, 2000 + path)
        base = first[side], first[side ^ 1] if flags & build.ACK else 0
        segment = build.tcp(
            *ports,
            base[0] + seq & 0xFFFFFFFF,
            base[1] + ack & 0xFFFFFFFF,
            flags,
            option,
            bytes(size),
        )
        return build.ethernet(build.ipv4(*ends, segment))

    for path in (0, 1):
        at, trip = 45 * MS * path, (20 + 20 * path) * MS
        syn, answer, third = options[path]
        yield at, packet(path, 0, 0, 0, build.SYN, syn)
        yield at + trip, packet(path, 1, 0, 1, build.SYN | build.ACK, answer)
        yield at + trip + MS, packet(path, 0, 1, 1, build.ACK, third)
    sent = [1, 1]
    dsn = 1
    for turn in range(rounds):
        for path in (0, 1):
            at = (100 + 45 * turn) * MS
            for part in range(2):
                option = build.dss(idsn_back + 1, idsn + dsn, sent[path], _SIZE)
                flags = build.ACK | build.PSH
                yield at + part * MS // 4, packet(path, 0, sent[path], 1, flags, option, _SIZE)
                sent[path] += _SIZE
                dsn += _SIZE
            yield (
                at + (20 + 20 * path) * MS,
                packet(path, 1, 1, sent[path], build.ACK, build.dss(idsn + dsn)),
            )

"""Captures of transfers whose limit is known because they are built so, seen from both ends.

A sender with a congestion window that is given, a send buffer and an application that writes when
told; links with a rate, a delay and losses that are given; a receiver with a buffer and a reader.
Everything happens at the times that these make it happen: no stack, no randomness.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.keys import KEY_A, KEY_B, NONCE_A, NONCE_B
from tests.unit.trace import packets as build

from mptcplab.wire.keys import join_hmac, token_and_idsn

MSS = 1000
MS = 1_000_000
SHIFT = 7
SERVER = "10.9.0.1"
ENDLESS = 1 << 40
MOST_WINDOW = 65535 << SHIFT


@dataclass(slots=True)
class Path:
    """A subflow and the link that it goes over."""

    rate_bps: float = 100e6
    delay_ns: int = 10 * MS
    cwnd: Callable[[int], int] = lambda _: ENDLESS
    """Bytes in flight that are allowed at each time (ns)."""
    lost: frozenset[int] = frozenset()
    """Which of its data packets are lost, counted from 0."""
    dead_ns: int = ENDLESS
    """From when nothing gets through."""
    repair_ns: int = 60 * MS
    """How long after its loss a packet is sent again."""
    free_ns: int = 0
    sent: int = 0
    acked: int = 0
    reached: int = 0
    number: int = 0
    flight: int = 0
    ahead: dict[int, int] = field(default_factory=dict)
    """Bytes that arrived past a gap, by where they start."""


@dataclass(slots=True)
class Transfer:
    """A connection on which the client sends; ``run`` plays it and keeps what both ends see."""

    paths: list[Path]
    duration_ns: int = 2000 * MS
    total: int = ENDLESS
    send_buffer: int = ENDLESS
    receive_buffer: Callable[[int], int] = lambda _: 4_000_000
    """By time: autotuning changes it."""
    read_bps: float | None = None
    """None reads at once."""
    writes: list[tuple[int, int]] | None = None
    """(time, bytes) that the application writes; None writes as much as the buffer takes."""
    data_acks_every_ns: int = 0
    """DATA_ACKs tell of new data at multiples of this alone, subflows acknowledge at once."""
    stamps: bool = True
    scale: bool = True
    client: list[tuple[int, bytes]] = field(default_factory=list)
    server: list[tuple[int, bytes]] = field(default_factory=list)
    _events: list[tuple[int, int, Callable[[int], None]]] = field(default_factory=list)
    _order: Any = field(default_factory=count)
    _written: int = 0
    _sent: int = 0
    _acked: int = 0
    _edge: int = 0
    _have: int = 0
    _later: dict[int, int] = field(default_factory=dict)
    _read: float = 0.0
    _read_ns: int = 0
    _offered: int = 0
    _told: int = 0
    _tells_ns: int = -1
    _ids: Any = field(default_factory=lambda: count(1))

    def run(self) -> Transfer:
        """Play the transfer."""
        start = 0
        for k, path in enumerate(self.paths):
            start = self._open(k, path, start)
        self._edge = self.receive_buffer(start)
        for when, size in self.writes or [(start, ENDLESS)]:
            self._at(max(when, start), lambda now, size=size: self._write(now, size))  # type: ignore[misc]
        while self._events:
            now, _, action = heapq.heappop(self._events)
            if now > self.duration_ns:
                break
            action(now)
        return self

    def captures(self) -> tuple[bytes, bytes]:
        """Return what was captured at the client and at the server."""
        return pcap(self.client), pcap(self.server)

    def _at(self, when: int, action: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def _open(self, k: int, path: Path, start: int) -> int:
        keys = (KEY_A, KEY_B)
        token = token_and_idsn(KEY_B)[0]
        theirs = join_hmac(KEY_B, KEY_A, NONCE_B, NONCE_A)
        ours = join_hmac(KEY_A, KEY_B, NONCE_A, NONCE_B)
        if k == 0:
            options = [build.capable(), build.capable(KEY_B), build.capable(*keys)]
        else:
            options = [
                bytes((30, 12, 0x10, k)) + struct.pack(">II", token, NONCE_A),
                bytes((30, 16, 0x10, 0)) + theirs[:8] + struct.pack(">I", NONCE_B),
                bytes((30, 24, 0x10, 0)) + ours[:20],
            ]
        shift = bytes((3, 3, SHIFT)) if self.scale else b""
        syn = bytes((2, 4)) + struct.pack(">H", 1460) + shift
        there, back = path.delay_ns, path.delay_ns
        at = start
        for side, flags, option in (
            (0, build.SYN, syn + options[0]),
            (1, build.SYN | build.ACK, syn + options[1]),
            (0, build.ACK, self._stamp(at + there + back) + options[2]),
        ):
            packet = self._packet(k, side, flags, option, -1 if flags & build.SYN else 0, 0)
            self._seen(packet, side, at, at + there)
            at += there
        return at - there

    def _packet(
        self, k: int, side: int, flags: int, options: bytes, seq: int, ack: int,
        payload: int = 0, window: int = 65535,
    ) -> bytes:  # fmt: skip
        ports, ends = (4000 + k, 80), (f"10.{k}.0.1", SERVER)
        if side:
            ports, ends = ports[::-1], ends[::-1]
        first = (1000, 5000) if side == 0 else (5000, 1000)
        segment = build.tcp(
            *ports, first[0] + 1 + seq, first[1] + 1 + ack, flags, options, bytes(payload), window
        )
        return bytes(build.ethernet(build.ipv4(*ends, segment, ident=next(self._ids) % 65536)))

    def _stamp(self, now: int) -> bytes:
        if not self.stamps:
            return b""
        return b"\x01\x01\x08\x0a" + struct.pack(">II", 70_000 + now // MS, 90_000)

    def _seen(self, packet: bytes, side: int, sent_ns: int, arrives_ns: int | None) -> None:
        here, there = (self.client, self.server) if side == 0 else (self.server, self.client)
        here.append((sent_ns, packet))
        if arrives_ns is not None:
            there.append((arrives_ns, packet))

    def _write(self, now: int, size: int) -> None:
        self._written = min(self.total, self._written + size)
        self._send(now)

    def _send(self, now: int) -> None:
        """Send what there is, what fits, on the first path with room."""
        while True:
            ready = min(self._written, self._acked + self.send_buffer) - self._sent
            size = min(MSS, ready)
            if size <= 0 or self._sent + size > self._edge:
                return
            path = next((p for p in self.paths if p.flight + size <= p.cwnd(now)), None)
            if path is None:
                return
            self._emit(now, path, path.sent, self._sent, size)
            path.sent += size
            path.flight += size
            self._sent += size

    def _emit(self, now: int, path: Path, seq: int, dsn: int, size: int) -> None:
        """Put a segment on the wire."""
        k = self.paths.index(path)
        idsn = token_and_idsn(KEY_A)[1]
        option = self._stamp(now) + build.dss(
            token_and_idsn(KEY_B)[1] + 1, idsn + 1 + dsn, 1 + seq, size
        )
        packet = self._packet(k, 0, build.ACK, option, seq, 0, size)
        path.free_ns = max(path.free_ns, now) + int(len(packet) * 8e9 / path.rate_bps)
        arrives = path.free_ns + path.delay_ns
        lost = path.number in path.lost or arrives > path.dead_ns
        path.number += 1
        self._seen(packet, 0, now, None if lost else arrives)
        if lost:
            again = now + path.repair_ns
            self._at(again, lambda then: self._emit(then, path, seq, dsn, size))
            return
        self._at(arrives, lambda then: self._arrive(then, path, seq, dsn, size))

    def _arrive(self, now: int, path: Path, seq: int, dsn: int, size: int) -> None:
        path.ahead[seq] = size
        while path.reached in path.ahead:
            path.reached += path.ahead.pop(path.reached)
        self._later[dsn] = size
        while self._have in self._later:
            self._have += self._later.pop(self._have)
        if self.read_bps is not None:
            self._at(now, self._read_on)
        self._ack(now, path)

    def _unread(self, now: int) -> int:
        """Advance the reader; return the bytes that it has not read."""
        if self.read_bps is None:
            self._read = self._have
        else:
            could = self._read + (now - self._read_ns) * self.read_bps / 8e9
            self._read = min(self._have, could)
        self._read_ns = now
        return int(self._have - self._read)

    def _read_on(self, now: int) -> None:
        """Offer the window again once the reader has made room for two segments."""
        unread = self._unread(now)
        if self._have + self.receive_buffer(now) - unread - self._offered >= 2 * MSS:
            self._ack(now, self.paths[0])
        if unread and self.read_bps:
            wait = int(2 * MSS * 8e9 / self.read_bps) + 1
            self._at(now + wait, self._read_on)

    def _data_acked(self, now: int) -> int:
        """Return the DATA_ACK that is due; of a receiver that is late, have the next one sent."""
        step = self.data_acks_every_ns
        if not step or now % step == 0:
            self._told = self._have
        elif self._told < self._have and self._tells_ns < now:
            self._tells_ns = (now // step + 1) * step
            self._at(self._tells_ns, lambda then: self._ack(then, self.paths[0]))
        return self._told

    def _ack(self, now: int, path: Path) -> None:
        if now > path.dead_ns:
            path = next(p for p in self.paths if now <= p.dead_ns)
        room = max(0, self.receive_buffer(now) - self._unread(now))
        room = min(room, MOST_WINDOW if self.scale else 65535)
        unit = 1 << SHIFT if self.scale else 1
        window = room // unit
        self._offered = max(self._offered, self._have + window * unit)
        edge, reached = self._have + window * unit, path.reached
        have = self._data_acked(now)
        k = self.paths.index(path)
        data_ack = token_and_idsn(KEY_A)[1] + 1 + have
        option = self._stamp(now) + build.dss(data_ack)
        packet = self._packet(k, 1, build.ACK, option, 0, reached, 0, window)
        self._seen(packet, 1, now, now + path.delay_ns)

        def take(then: int) -> None:
            path.flight -= max(0, reached - path.acked)
            path.acked = max(path.acked, reached)
            self._acked = max(self._acked, have)
            self._edge = max(self._edge, edge)
            self._send(then)

        self._at(now + path.delay_ns, take)


def pcap(rows: list[tuple[int, bytes]], start_ns: int = 1_700_000_000 * 10**9) -> bytes:
    """Return a capture with nanoseconds of packets at the given times, 128 bytes of each."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 128, 1)]
    for when, packet in sorted(rows, key=lambda row: row[0]):
        seconds, rest = divmod(start_ns + when, 10**9)
        kept = packet[:128]
        out.append(struct.pack("<IIII", seconds, rest, len(kept), len(packet)) + kept)
    return b"".join(out)

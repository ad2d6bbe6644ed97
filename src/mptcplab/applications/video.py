"""Adaptive video: chunks of a rate that the throughput of the last ones allows.

The rate of a chunk is the highest of the ladder that is at most 85 % of the harmonic mean of the
throughput of the last five chunks, as in FESTIVE (Jiang, Sekar and Zhang, CoNEXT 2012), which takes
the last twenty; the first chunk is of the lowest rate.
"""

from __future__ import annotations

from collections import deque
from statistics import harmonic_mean
from typing import Final

from mptcplab.applications.client import Client
from mptcplab.applications.distributions import random_of
from mptcplab.applications.exchange import HEADER_BYTES, Exchange
from mptcplab.applications.workloads import Video

_REMEMBERED: Final = 5
_USED_SHARE: Final = 0.85
_BITS_NS: Final = 8_000_000_000


class VideoClient(Client):
    """A player: it asks for the next chunk as soon as its buffer has room for it."""

    def __init__(self, workload: Video, slots: int, seed: int, flow: str) -> None:
        super().__init__(slots, persistent=True)
        self._workload = workload
        self._random = random_of(seed, flow)
        self._throughputs_bps: deque[float] = deque(maxlen=_REMEMBERED)
        self._buffer_ns = 0
        self._looked_ns = 0
        self._is_playing = False

    def _begin(self, now_ns: int) -> None:
        self._due(0, now_ns)

    def _due(self, _key: int, due_ns: int) -> None:
        bitrate_bps = self._bitrate_bps()
        self._ask(
            Exchange(
                self._number(),
                due_ns,
                self._workload.request.draw(self._random, HEADER_BYTES),
                max(1, bitrate_bps * self._workload.chunk_ns // _BITS_NS),
                bitrate_bps=bitrate_bps,
            )
        )

    def _bitrate_bps(self) -> int:
        ladder = self._workload.ladder_bps
        if not self._throughputs_bps:
            return ladder[0]
        usable_bps = _USED_SHARE * harmonic_mean(self._throughputs_bps)
        return max((rate for rate in ladder if rate <= usable_bps), default=ladder[0])

    def _play(self, now_ns: int) -> int:
        """Let playout go on to now; return for how long it has stood still by now."""
        passed_ns = now_ns - self._looked_ns
        self._looked_ns = now_ns
        if not self._is_playing:
            return 0
        played_ns = min(passed_ns, self._buffer_ns)
        self._buffer_ns -= played_ns
        return passed_ns - played_ns

    def _completed(self, exchange: Exchange, now_ns: int) -> None:
        took_ns = max(1, now_ns - exchange.start_ns)
        self._throughputs_bps.append(exchange.response_bytes * _BITS_NS / took_ns)
        exchange.stall_ns = self._play(now_ns)
        self._buffer_ns += self._workload.chunk_ns
        exchange.buffer_ns = self._buffer_ns
        self._is_playing = self._is_playing or self._buffer_ns >= self._workload.startup_ns
        if self._stopped or self._issued == self._workload.count:
            return
        over_ns = self._buffer_ns + self._workload.chunk_ns - self._workload.playout_buffer_ns
        if over_ns > 0 and self._is_playing:
            self._at(now_ns + over_ns, 0)
        else:
            self._due(0, now_ns)

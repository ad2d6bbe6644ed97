"""What an emulated link says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_LATENESS_STEP_NS: Final = 10_000
_LATENESS_STEPS: Final = 500
"""The lateness histogram: steps of 10 us up to 5 ms; the last step holds all that is later."""


@dataclass(slots=True)
class Lateness:
    """How much later than the model said frames left the emulator."""

    pieces: int = 0
    sum_ns: int = 0
    max_ns: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * _LATENESS_STEPS)

    def record(self, late_ns: int) -> None:
        """One more piece went out, so late."""
        self.pieces += 1
        self.sum_ns += late_ns
        if late_ns > self.max_ns:
            self.max_ns = late_ns
        step = late_ns // _LATENESS_STEP_NS
        self.histogram[step if step < _LATENESS_STEPS else -1] += 1

    @property
    def mean_ns(self) -> float:
        """The mean, 0 when nothing went out."""
        return self.sum_ns / self.pieces if self.pieces else 0.0

    def quantile_ns(self, share: float) -> int:
        """The lateness that `share` (0 to 1) of the pieces did not exceed, rounded up to 10 us;
        the maximum where that lies beyond the histogram.
        """
        wanted = share * self.pieces
        seen = 0
        for step, count in enumerate(self.histogram[:-1]):
            seen += count
            if seen >= wanted:
                return min((step + 1) * _LATENESS_STEP_NS, self.max_ns)
        return self.max_ns

    def since(self, earlier: Lateness) -> Lateness:
        """What was added since an earlier reading (the maximum is that since peaks were reset)."""
        return Lateness(
            self.pieces - earlier.pieces,
            self.sum_ns - earlier.sum_ns,
            self.max_ns,
            [a - b for a, b in zip(self.histogram, earlier.histogram, strict=True)],
        )


@dataclass(frozen=True, slots=True)
class DirectionReading:
    """One direction: the model's counters by name, and how well the emulator kept time.

    `refused_packets` came out of the model but were not accepted by the far device (down, or out
    of memory).
    """

    counters: dict[str, int]
    lateness: Lateness
    refused_packets: int


@dataclass(frozen=True, slots=True)
class LinkReading:
    """A link at the instant `at_ns` of the monotonic clock.

    `cpu_ns` is the CPU time its process has used, `wait_ns` the time it was ready to run and did
    not get a CPU (0 where the kernel does not say).
    """

    at_ns: int
    forward: DirectionReading
    backward: DirectionReading
    cpu_ns: int
    wait_ns: int

"""What a wire does to packets besides delaying them: jitter, loss in bursts, a varying rate."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import pairwise
from typing import Any


class JitterDistribution(Enum):
    """How the extra delay of a packet is drawn; its mean is 0."""

    UNIFORM = "uniform"
    """Anywhere from -jitter to +jitter, all equally likely."""

    NORMAL = "normal"
    """Normal with standard deviation jitter."""

    PARETO = "pareto"
    """Pareto of shape 3 with standard deviation jitter: mostly a little early, and rarely very
    late. Shape and use are those of netem's table of that name."""

    def __str__(self) -> str:
        return self.value

    @property
    def most(self) -> float:
        """How many times the jitter all but one packet in ten thousand stay within."""
        return {"uniform": 1.0, "normal": 4.0, "pareto": 24.0}[self.value]


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Loss in bursts: a Markov chain of a good and a bad state, one step per packet.

    Gilbert 1960, Elliott 1963; the parameters are those of `tc netem loss gemodel`, all
    probabilities from 0 to 1.
    """

    good_to_bad: float
    """Probability, at each packet, to go from good to bad (netem's p)."""
    bad_to_good: float
    """Probability, at each packet, to go from bad to good (netem's r)."""
    loss_in_bad: float = 1.0
    """Probability to lose a packet in the bad state (netem's 1-h)."""
    loss_in_good: float = 0.0
    """Probability to lose a packet in the good state (netem's 1-k)."""

    def __post_init__(self) -> None:
        for name in ("good_to_bad", "bad_to_good", "loss_in_bad", "loss_in_good"):
            check_probability(name, getattr(self, name))

    def __str__(self) -> str:
        return (
            f"good_to_bad {self.good_to_bad:g}, bad_to_good {self.bad_to_good:g}, "
            f"loss_in_bad {self.loss_in_bad:g}, loss_in_good {self.loss_in_good:g}"
        )

    @property
    def mean_loss(self) -> float:
        """The share of packets lost in the long run."""
        total = self.good_to_bad + self.bad_to_good
        if total == 0.0:
            return self.loss_in_good
        bad = self.good_to_bad / total
        return bad * self.loss_in_bad + (1.0 - bad) * self.loss_in_good


@dataclass(frozen=True)
class CapacityTrace:
    """A rate that changes at given times, as recorded on a real link.

    Times count from the moment the trace is handed to the channel. After `period_ns` the trace
    starts over; without a period the last rate stays. `file` and `digest` (SHA-256) say where it
    was read.
    """

    steps: tuple[tuple[int, int], ...]
    """Pairs of a time (ns, ascending, the first one 0) and the rate from then on (bit/s; 0 stops
    the link, which keeps its queue)."""
    period_ns: int | None = None
    file: str = field(default="", compare=False)
    digest: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        times = [time_ns for time_ns, _ in self.steps]
        if not times or times[0] != 0 or any(b <= a for a, b in pairwise(times)):
            raise ValueError("capacity trace: times must ascend and start at 0")
        if any(rate < 0 for _, rate in self.steps):
            raise ValueError("capacity trace: a rate must not be negative")
        if self.period_ns is not None and self.period_ns <= times[-1]:
            raise ValueError("capacity trace: the period must be longer than the last time")

    def __str__(self) -> str:
        return self.file or f"a trace of {len(self.steps)} steps"

    @cached_property
    def mean_bps(self) -> int:
        """The mean rate of a period; without one, the last rate."""
        if self.period_ns is None:
            return self.steps[-1][1]
        return round(self._sent[-1] / self.period_ns)

    def mean_between_bps(self, start_ns: int, end_ns: int) -> int:
        """Return the mean rate from one time to a later one."""
        sent = self._sent_until(end_ns) - self._sent_until(start_ns)
        return round(sent / (end_ns - start_ns))

    @cached_property
    def _sent(self) -> list[int]:
        """What a link sends until each step, and in a period (nanobits)."""
        total, sums = 0, [0]
        ends = [time_ns for time_ns, _ in self.steps[1:]]
        ends += [] if self.period_ns is None else [self.period_ns]
        for (since_ns, rate_bps), end_ns in zip(self.steps, ends, strict=False):
            total += (end_ns - since_ns) * rate_bps
            sums.append(total)
        return sums

    def longest_ns(self, size_bytes: int) -> int:
        """Return how long it takes to send so many bytes, at the worst time to begin (ns).

        Of many steps, some are tried. Without a rate above 0 at the end it may take for ever, and
        what lies before that counts.
        """
        work = size_bytes * 8 * 1_000_000_000
        whole = self._sent[-1] if self.period_ns else 0
        rounds, left = divmod(work, whole) if whole else (0, work)
        longest_ns = 0
        for step in range(0, len(self.steps), max(1, len(self.steps) // 10_000)):
            longest_ns = max(
                longest_ns, self._sent_after_ns(self._sent[step] + left) - self.steps[step][0]
            )
        return longest_ns + rounds * (self.period_ns or 0)

    def _sent_after_ns(self, work: int) -> int:
        """Return when so much has been sent since the beginning (nanobits)."""
        start_ns = 0
        if self.period_ns is not None and work > self._sent[-1]:
            start_ns, work = self.period_ns, work - self._sent[-1]
        step = min(bisect_left(self._sent, work, lo=1), len(self.steps)) - 1
        since_ns, rate_bps = self.steps[step]
        if not rate_bps:
            return start_ns + since_ns
        return start_ns + since_ns - (self._sent[step] - work) // rate_bps

    def _sent_until(self, time_ns: int) -> int:
        rounds = 0
        if self.period_ns is not None:
            rounds, time_ns = divmod(time_ns, self.period_ns)
        step = bisect_right(self.steps, time_ns, key=step_time_ns) - 1
        since_ns, rate_bps = self.steps[step]
        sent = self._sent[step] + (time_ns - since_ns) * rate_bps
        return sent + rounds * self._sent[-1] if rounds else sent


def step_time_ns(step: tuple[int, int]) -> int:
    """Return the time of a trace's step, to search by."""
    return step[0]


def with_implied(changes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return changes of a link with what follows from them, by the names of its fields.

    A rate ends a trace, and a trace has its mean as the rate; each kind of loss ends the other.
    """
    result = dict(changes)
    if (trace := result.get("trace")) is not None:
        result["rate_bps"] = trace.mean_bps
    elif "rate_bps" in result:
        result["trace"] = None
    if result.get("burst_loss") is not None:
        result["loss"] = 0.0
    elif "loss" in result:
        result["burst_loss"] = None
    return result


def check_probability(name: str, value: float) -> None:
    """Raise `ValueError` for what is no probability."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a probability from 0 to 1, found {value}")

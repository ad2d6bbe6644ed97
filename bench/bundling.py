"""Whether trains change what a simulation sees: runs with them against runs of each packet.

A grid of rates, round trips, queues, losses and connections, for hosts with and without offload.
For each case the goodput, the share of the first connection or subflow, and the round trip, with
trains and packet by packet, over the same seeds, round trips differing by a few thousandths: the
difference of the means in percent, and half of its 95 % interval. A case passes where the
difference is at most 2 % or not beyond the interval.

    python bench/bundling.py [--cases N] [--seed S] [--seeds K] [--packets P] [--only TEXT]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from statistics import mean

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.statistics import difference
from mptcplab.results.summary import Rates, shares_bps
from mptcplab.scenario import load
from mptcplab.simulated import testbed
from mptcplab.units import parse_rate

RATES = ("10Mb/s", "100Mb/s", "1Gb/s", "10Gb/s")
ROUND_TRIPS_MS = (0.1, 1.0, 10.0, 50.0, 200.0)
QUEUES_BDP = (0.25, 1.0, 4.0, 32.0)
DISCIPLINES = ("drop-tail", "red")
LOSSES = ("0", "0.01%", "0.1%", "1%")
OFFLOADS = ("false", "true")
MIXES = ("1 tcp", "2 tcp", "1 mptcp over 2", "1 mptcp over 8", "1 mptcp over 2 and 1 tcp")

TOLERANCE = 0.02
BITS_PER_PACKET = 12_304


@dataclass(frozen=True, slots=True)
class Case:
    """One set-up; ``duration_s`` follows from how many packets a run may have."""

    rate: str
    rtt_ms: float
    queue_bdp: float
    discipline: str
    loss: str
    mix: str
    offload: str

    @property
    def rate_bps(self) -> int:
        """The rate of each link."""
        return parse_rate(self.rate)

    @property
    def links(self) -> int:
        """How many links there are."""
        return int(self.mix.split()[3]) if "over" in self.mix else 1

    def duration_s(self, packets: int) -> float:
        """How long a run is: 300 round trips and 2 s, as far as so many packets go."""
        return min(max(0.3 * self.rtt_ms, 2.0), self._longest_s(packets))

    def is_long_enough(self, packets: int) -> bool:
        """Whether so many packets go for 50 round trips and a quarter of a second."""
        return self._longest_s(packets) >= max(0.05 * self.rtt_ms, 0.25)

    def _longest_s(self, packets: int) -> float:
        return packets * BITS_PER_PACKET / (self.rate_bps * self.links)

    def text(self, number: int, packets: int) -> str:
        """The scenario of one run."""
        rtt_ms = self.rtt_ms * (1 + 0.003 * number)
        buffer_bytes = max(4_000_000, int(self.rate_bps * self.links * rtt_ms * 1e-3 / 8 * 12))
        duration_s = self.duration_s(packets)
        parts = [
            f'duration = "{duration_s:.3f}s"\ninterval = "{max(10, int(duration_s * 40))}ms"\n'
        ]
        parts += [f"[hosts.{host}]\noffload = {self.offload}\n" for host in ("a", "b")]
        parts += [self._link(f"l{index}", rtt_ms) for index in range(self.links)]
        flows = [("f", "mptcp", "lia") if "mptcp" in self.mix else ("f", "tcp", "reno")]
        if "2 tcp" in self.mix or "and 1 tcp" in self.mix:
            flows.append(("g", "tcp", "reno"))
        parts += [
            f'[flows.{name}]\nfrom = "a"\nto = "b"\nprotocol = "{protocol}"\n'
            f'congestion = "{congestion}"\nbuffer = {buffer_bytes}\n'
            + ('links = ["l0"]\n' if protocol == "tcp" else "")
            for name, protocol, congestion in flows
        ]
        return "".join(parts)

    def _link(self, name: str, rtt_ms: float) -> str:
        limit = max(2, round(self.queue_bdp * self.rate_bps * rtt_ms * 1e-3 / BITS_PER_PACKET))
        return (
            f'[links.{name}]\nbetween = ["a", "b"]\nrate = "{self.rate}"\n'
            f'rtt = "{rtt_ms:.6f}ms"\nloss = "{self.loss}"\nqueue = "{limit} packets"\n'
            f'discipline = "{self.discipline}"\n'
        )

    def __str__(self) -> str:
        return (
            f"{self.rate:>8} {self.rtt_ms:5g} ms {self.queue_bdp:4g} BDP {self.discipline:9} "
            f"loss {self.loss:5} {self.mix:24} {'offload' if self.offload == 'true' else 'packets'}"
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run says: bits per second, the share of the first, milliseconds; CPU seconds."""

    goodput: float
    share: float
    round_trip: float
    cpu_s: float


def play(case: Case, number: int, trains: bool, packets: int) -> Seen:
    """Run a case once."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "case.toml"
        path.write_text(case.text(number, packets))
        overrides = () if trains else ("trains=false",)
        scenario = load(path, overrides=overrides, seed=number + 1)
        started = time.process_time()
        run = Run(testbed.run(scenario, Path(scratch) / "run", Silent()))
        cpu_s = time.process_time() - started
        end_ns = run.metadata["measured_ns"]
        begin_ns = end_ns // 4
        rates = Rates(run).flows_bps(begin_ns, end_ns)
        goodput = sum(rates.values())
        if len(rates) == 1:
            rates = shares_bps(run, "f", begin_ns, end_ns)
        round_trips = [
            row["srtt_ns"] * 1e-6
            for row in run.rows("subflows")
            if row["host"] == "a" and row["time_ns"] > begin_ns and row["srtt_ns"]
        ]
    first = rates.get("f", rates.get("l0", 0.0))
    return Seen(goodput, first / max(1.0, sum(rates.values())), mean(round_trips or [0.0]), cpu_s)


@dataclass(frozen=True, slots=True)
class Difference:
    """Trains less packets, as a part of the value itself, and half of its 95 % interval."""

    mean: float
    half: float

    @property
    def passes(self) -> bool:
        """Whether it is within the tolerance, or not beyond the interval."""
        return abs(self.mean) <= max(TOLERANCE, self.half)

    def __str__(self) -> str:
        return f"{self.mean:+7.2%} +- {self.half:5.2%}{' ' if self.passes else '!'}"


def relative(with_trains: list[float], by_packet: list[float], scale: float) -> Difference:
    """Return the difference of the means over ``scale``."""
    found = difference(with_trains, by_packet)
    return Difference(found.mean / scale, (found.margin or 0.0) / scale)


@dataclass(frozen=True, slots=True)
class Judgment:
    """How runs of a case with trains differ from those without, and the CPU seconds of both."""

    case: Case
    goodput: Difference
    share: Difference
    round_trip: Difference
    trains_s: float
    packets_s: float

    @property
    def passes(self) -> bool:
        """Whether all three differences pass."""
        return self.goodput.passes and self.share.passes and self.round_trip.passes

    def __str__(self) -> str:
        cost = self.packets_s / max(self.trains_s, 0.001)
        return f"{self.case!s:78} {self.goodput} {self.share} {self.round_trip}  {cost:5.1f}"


def judge(case: Case, seeds: int, packets: int) -> Judgment:
    """Run a case with trains and without."""
    trains = [play(case, number, True, packets) for number in range(seeds)]
    single = [play(case, number, False, packets) for number in range(seeds)]
    goodputs = [one.goodput for one in single]
    round_trips = [one.round_trip for one in single]
    return Judgment(
        case,
        relative([one.goodput for one in trains], goodputs, mean(goodputs) or 1.0),
        relative([one.share for one in trains], [one.share for one in single], 1.0),
        relative([one.round_trip for one in trains], round_trips, mean(round_trips) or 1.0),
        sum(one.cpu_s for one in trains),
        sum(one.cpu_s for one in single),
    )


def grid() -> list[Case]:
    """Every case."""
    return [
        Case(*values)
        for values in itertools.product(
            RATES, ROUND_TRIPS_MS, QUEUES_BDP, DISCIPLINES, LOSSES, MIXES, OFFLOADS
        )
    ]


def main() -> int:
    """Run so many cases, drawn at random from the grid; 1 if one fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--packets", type=int, default=400_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="cases whose line has this text")
    arguments = parser.parse_args()
    cases = [
        case
        for case in grid()
        if arguments.only in str(case) and case.is_long_enough(arguments.packets)
    ]
    Random(arguments.seed).shuffle(cases)
    cases = cases[: arguments.cases]
    print(f"{'':78}{'goodput':>18}{'share':>18}{'round trip':>18}  cost of packets / trains")
    failed = 0
    spent = [0.0, 0.0]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        run = partial(judge, seeds=arguments.seeds, packets=arguments.packets)
        for judgment in pool.map(run, cases):
            failed += not judgment.passes
            spent = [spent[0] + judgment.trains_s, spent[1] + judgment.packets_s]
            print(judgment, flush=True)
    print(f"{len(cases)} cases, {failed} beyond; {spent[1]:.0f} s packets, {spent[0]:.0f} s trains")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

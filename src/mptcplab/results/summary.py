"""What a run comes to: flows, links and stages in a few numbers, as ``--json`` prints them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from mptcplab.results.application_times import ApplicationTimes
from mptcplab.results.run import Run
from mptcplab.units import NANOSECONDS

ENOUGH_INTERVALS: Final = 2
"""Fewer samples than this after the settling time are no basis for a rate."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes moved in the interval that ends at ``end_ns``, by one thing with a name."""

    end_ns: int
    interval_ns: int
    name: str
    size_bytes: int

    def within(self, start_ns: int, end_ns: int) -> float:
        """Return the bytes that fall between two instants, taking the interval as even."""
        overlap = min(self.end_ns, end_ns) - max(self.end_ns - self.interval_ns, start_ns)
        if overlap <= 0 or self.interval_ns <= 0:
            return 0.0
        return self.size_bytes * overlap / self.interval_ns


class Rates:
    """The rates of a run's flows and links over any stretch of time."""

    def __init__(self, run: Run) -> None:
        """Read the two tables that hold rates."""
        self._flows = [
            Sample(row["time_ns"], row["interval_ns"], row["flow"], row["bytes"])
            for row in run.rows("flows")
        ]
        self._links: dict[str, list[Sample]] = {"forward": [], "backward": []}
        self._could: dict[str, list[Sample]] = {"forward": [], "backward": []}
        for row in run.rows("links"):
            sample = Sample(row["time_ns"], row["interval_ns"], row["link"], row["tx_bytes"])
            self._links[row["direction"]].append(sample)
            if row["rate_bps"] and (row["up"] or row["tx_bytes"]):
                could_bytes = row["rate_bps"] * row["interval_ns"] // (8 * NANOSECONDS)
                could = Sample(row["time_ns"], row["interval_ns"], row["link"], could_bytes)
                self._could[row["direction"]].append(could)

    @property
    def end_ns(self) -> int:
        """The end of the last interval measured, 0 where there is none."""
        every = (sample.end_ns for sample in [*self._flows, *self._links["forward"]])
        return max(every, default=0)

    def flows_bps(self, start_ns: int, end_ns: int) -> dict[str, float]:
        """Return the goodput of each flow between two instants."""
        return _mean_bps(self._flows, start_ns, end_ns)

    def links_bps(self, start_ns: int, end_ns: int) -> dict[str, float]:
        """Return the rate of each link between two instants, in its busier direction."""
        forward = _mean_bps(self._links["forward"], start_ns, end_ns)
        backward = _mean_bps(self._links["backward"], start_ns, end_ns)
        return {name: max(bps, backward.get(name, 0.0)) for name, bps in forward.items()}

    def busier(self, link: str, start_ns: int, end_ns: int) -> str:
        """Return the direction that carried more of a link's bytes: "forward" or "backward"."""
        forward, backward = (
            _mean_bps(self._links[direction], start_ns, end_ns).get(link, 0.0)
            for direction in ("forward", "backward")
        )
        return "backward" if backward > forward else "forward"

    def utilisation(self, link: str, start_ns: int, end_ns: int) -> float | None:
        """Return the part of what a link could carry while it was up that it did carry.

        In its busier direction, by the rate that it had in each interval; None without a rate.
        """
        direction = self.busier(link, start_ns, end_ns)
        could = _mean_bps(self._could[direction], start_ns, end_ns).get(link)
        carried = _mean_bps(self._links[direction], start_ns, end_ns).get(link, 0.0)
        return carried / could if could else None

    def of(self, name: str, start_ns: int, end_ns: int) -> float | None:
        """Return the rate of "total", of a flow or of a link; None for a name never seen."""
        flows = self.flows_bps(start_ns, end_ns)
        if name == "total":
            return sum(flows.values())
        return flows.get(name, self.links_bps(start_ns, end_ns).get(name))


def _mean_bps(samples: Iterable[Sample], start_ns: int, end_ns: int) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for sample in samples:
        total[sample.name] += sample.within(start_ns, end_ns)
    length_ns = max(end_ns - start_ns, 1)
    return {name: size * 8 * NANOSECONDS / length_ns for name, size in total.items()}


def shares_bps(run: Run, flow: str, start_ns: int, end_ns: int) -> dict[str, float]:
    """Return what a flow's subflows had acknowledged between two instants, by their first link.

    From the last sample at or before ``start_ns``, so that the interval is one of samples.
    """
    (source,) = (each["source"] for each in run.scenario["flows"] if each["name"] == flow)
    rows = [
        row
        for row in run.rows("subflows")
        if row["flow"] == flow and row["host"] == source and row["link"] is not None
    ]
    begin_ns = max((row["time_ns"] for row in rows if row["time_ns"] <= start_ns), default=0)
    first: dict[tuple[int, int], int] = {}
    last: dict[tuple[int, int], tuple[str, int]] = {}
    until_ns = begin_ns
    for row in rows:
        key = (row["connection"], row["subflow"])
        if row["time_ns"] == begin_ns:
            first[key] = row["bytes_acked"]
        elif begin_ns < row["time_ns"] <= end_ns:
            last[key] = (row["link"], row["bytes_acked"])
            until_ns = row["time_ns"]
    total: dict[str, float] = defaultdict(float)
    for key, (link, size_bytes) in last.items():
        total[link] += size_bytes - first.get(key, 0)
    length_ns = max(until_ns - begin_ns, 1)
    return {link: size * 8 * NANOSECONDS / length_ns for link, size in total.items()}


def stages(run: Run) -> list[tuple[int, int]]:
    """Return (start_ns, end_ns) of each stretch between timeline actions that was measured.

    Actions that repeat do not count.
    """
    scenario = run.scenario
    end_ns = min(scenario["duration_ns"], run.metadata["measured_ns"])
    once = [action for action in scenario["timeline"] if not action.get("repeated")]
    instants = {0, end_ns, *(action["at_ns"] for action in once)}
    cuts = sorted(at for at in instants if 0 <= at <= end_ns)
    return list(pairwise(cuts))


def summarise(run: Run) -> dict[str, Any]:
    """Return the object that ``mptcplab run --json`` prints; see ``docs/reference/results.md``."""
    rates = Rates(run)
    scenario, metadata = run.scenario, run.metadata
    end_ns = metadata["measured_ns"]
    start_ns = min(settle_ns(run), end_ns)
    link_rates = rates.links_bps(start_ns, end_ns)
    return {
        "run": str(run.folder),
        "scenario": scenario["name"],
        "testbed": metadata["testbed"],
        "valid": metadata["valid"],
        "invalid_reasons": metadata["invalid_reasons"],
        "duration_s": end_ns / NANOSECONDS,
        "settle_s": settle_ns(run) / NANOSECONDS,
        "wall_s": metadata["wall_s"],
        "flows": _flows(run, rates),
        "links": [
            {
                "name": link["name"],
                "configured_bps": link[rates.busier(link["name"], 0, end_ns)]["rate_bps"],
                "mean_bps": link_rates.get(link["name"], 0.0),
                "utilisation": rates.utilisation(link["name"], start_ns, end_ns),
                "driver": metadata["drivers"].get(link["name"]),
            }
            for link in scenario["topology"]["links"]
        ],
        "stages": [_stage(run, rates, number, extent) for number, extent in enumerate(stages(run))],
        "report": scenario["report"],
    }


def settle_ns(run: Run) -> int:
    """Return the start-up that goodput leaves out; 0 for runs older than the key."""
    return int(run.scenario.get("settle_ns") or 0)


def settled(run: Run, start_ns: int, end_ns: int) -> tuple[int, int] | None:
    """Return a stretch of a run without its start-up; None where too little of it remains."""
    start_ns += settle_ns(run)
    if settle_ns(run) and end_ns - start_ns < ENOUGH_INTERVALS * run.scenario["interval_ns"]:
        return None
    return start_ns, end_ns


def _stage(run: Run, rates: Rates, number: int, extent: tuple[int, int]) -> dict[str, Any]:
    judged = settled(run, *extent)
    return {
        "stage": number,
        "start_s": extent[0] / NANOSECONDS,
        "end_s": extent[1] / NANOSECONDS,
        "goodput_bps": None if judged is None else sum(rates.flows_bps(*judged).values()),
        "links": {} if judged is None else rates.links_bps(*judged),
    }


def completion_ns(run: Run, flow: dict[str, Any]) -> int | None:
    """Return how long a flow with a size took, start to last byte; None where it was not done.

    ``flow`` is one of the scenario's as ``run.json`` holds it.
    """
    ends = [end for end in run.metadata["flows"] if end["flow"] == flow["name"]]
    if not flow["size_bytes"] or not ends:
        return None
    last_ns = 0
    for end in ends:
        if end.get("end_ns") is None or end["end_ns"] > run.metadata["measured_ns"]:
            return None
        last_ns = max(last_ns, end["end_ns"])
    if sum(end["bytes"] for end in ends) < flow["size_bytes"] or last_ns <= flow["start_ns"]:
        return None
    return last_ns - int(flow["start_ns"])


def completion_s(run: Run, flow: str) -> float | None:
    """Return how long the flow of this name took (s), as :func:`completion_ns`."""
    (declared,) = (each for each in run.scenario["flows"] if each["name"] == flow)
    took_ns = completion_ns(run, declared)
    return None if took_ns is None else took_ns / NANOSECONDS


def _flows(run: Run, rates: Rates) -> list[dict[str, Any]]:
    """Sum up each flow over its own active time, from what the receivers reported at the end."""
    ends: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for end in run.metadata["flows"]:
        ends[end["flow"]].append(end)
    summary = []
    times = ApplicationTimes(run)
    for flow in run.scenario["flows"]:
        reported = ends[flow["name"]]
        size_bytes = sum(end["bytes"] for end in reported)
        drained = [end.get("drained_bytes") for end in reported]
        took_ns = completion_ns(run, flow)
        if took_ns is None:
            stop_ns = flow["stop_ns"] or run.metadata["measured_ns"]
            judged = settled(run, flow["start_ns"], stop_ns)
            goodput_bps = (
                None if judged is None else rates.flows_bps(*judged).get(flow["name"], 0.0)
            )
        else:  # a short flow is done within an interval, of which the samples know no more
            goodput_bps = size_bytes * 8 * NANOSECONDS / took_ns
        verdicts = [end["intact"] for end in reported]
        protocols = {end["protocol"] for end in reported}
        summary.append(
            {
                "name": flow["name"],
                "protocol": protocols.pop() if len(protocols) == 1 else flow["protocol"],
                "goodput_bps": goodput_bps,
                "bytes": size_bytes,
                "drained_bytes": None if None in drained else sum(filter(None, drained)),
                "intact": None if None in verdicts or not verdicts else all(verdicts),
                **times.summary(flow["name"], settle_ns(run)),
            }
        )
    return summary

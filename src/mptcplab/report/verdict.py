"""A run held against what was expected of it and what the 2012 report measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from mptcplab.results.run import Run
from mptcplab.results.summary import ENOUGH_INTERVALS, Rates, completion_ns, settle_ns, stages
from mptcplab.units import NANOSECONDS, format_duration, format_rate

Outcome = Literal["met", "missed", "not measured", "too short"]


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation and what became of it; rates in bits per second."""

    what: str
    measured_bps: float | None
    expected_bps: int
    tolerance: float
    at_least: bool
    outcome: Outcome
    source: str

    @property
    def wanted(self) -> str:
        """What is expected, as text."""
        rate = format_rate(self.expected_bps)
        return f"at least {rate}" if self.at_least else f"{rate} ± {self.tolerance:.0%}"

    @property
    def bounds_bps(self) -> tuple[float, float]:
        """The least and the highest rate that meet it."""
        if self.at_least:
            return self.expected_bps, inf
        away = self.tolerance * self.expected_bps
        return self.expected_bps - away, self.expected_bps + away

    @property
    def text(self) -> str:
        """One line a person can read."""
        wanted = self.wanted
        if self.measured_bps is None:
            why = "too short to judge" if self.outcome == "too short" else self.outcome
            return f"{self.what}: {why}, expected {wanted}"
        away = self.measured_bps / self.expected_bps - 1
        return (
            f"{self.what}: {format_rate(self.measured_bps)} ({away:+.1%}), "
            f"expected {wanted}: {self.outcome}"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One value of the 2012 report beside this run's.

    ``kind`` is as in :class:`mptcplab.scenario.model.Measured`: a "capacity" was not measured.
    """

    what: str
    measured_bps: float | None
    report_bps: int
    source: str
    note: str
    kind: str


class Measurement:
    """What a run measured of a flow, a link or all flows, over the whole of it or a stage.

    Everything is judged over the same stretches: a stage less the settling time that the scenario's
    expectations, or else the scenario, give it, of several expectations the longest that leaves
    enough of the stage; where there are only flows that end with their last byte, the whole run is
    their own time, as it is for each of them.
    """

    def __init__(self, run: Run) -> None:
        """Read the run's tables."""
        self._rates = Rates(run)
        self._stages = stages(run)
        self._end_ns = run.metadata["measured_ns"]
        self._interval_ns = run.scenario["interval_ns"]
        self._run = run
        by_stage: dict[int | None, list[int]] = {}
        for expectation in run.scenario["expectations"]:
            by_stage.setdefault(expectation["stage"], []).append(expectation["settle_ns"])
        self._settle_ns = {
            stage: max(
                (each for each in several if self._leaves_enough(stage, each)), default=min(several)
            )
            for stage, several in by_stage.items()
        }

    def name(self, of: str, stage: int | None, settle_ns: int | None = None) -> str:
        """Return what is measured and when, as text."""
        what = "goodput" if of == "total" else of
        if stage is None and self._own_time_ns(of) is not None:
            return f"{what} until the last byte"
        settle = self._settled_ns(stage) if settle_ns is None else settle_ns
        after = f" after {format_duration(settle)}" if settle else ""
        if stage is None:
            return f"{what}, whole run{after}"
        if stage >= len(self._stages):
            return f"{what}, stage {stage}"
        start_ns, end_ns = self._stages[stage]
        return (
            f"{what}, stage {stage} "
            f"({start_ns / NANOSECONDS:g} to {end_ns / NANOSECONDS:g} s{after and ','}{after})"
        )

    def _leaves_enough(self, stage: int | None, settle_ns: int) -> bool:
        start_ns, end_ns = 0, self._end_ns
        if stage is not None:
            if stage >= len(self._stages):
                return False
            start_ns, end_ns = self._stages[stage]
        return bool(end_ns - start_ns - settle_ns >= ENOUGH_INTERVALS * self._interval_ns)

    def rate_bps(
        self, of: str, stage: int | None, settle_ns: int | None = None
    ) -> tuple[float | None, Outcome]:
        """Return the rate and "met", or None and why there is none.

        ``settle_ns`` None takes the longest of the stage's expectations that leaves enough.
        """
        if stage is None:
            own_bps = self._own_rate_bps(of)
            if own_bps is not None:
                return own_bps, "met"
            start_ns, end_ns = 0, self._end_ns
        elif stage < len(self._stages):
            start_ns, end_ns = self._stages[stage]
        else:
            return None, "not measured"
        settle_ns = self._settled_ns(stage) if settle_ns is None else settle_ns
        if not self._leaves_enough(stage, settle_ns):
            return None, "too short"
        start_ns += settle_ns
        rate_bps = self._rates.of(of, start_ns, end_ns)
        return rate_bps, "not measured" if rate_bps is None else "met"

    def _settled_ns(self, stage: int | None) -> int:
        return self._settle_ns.get(stage, settle_ns(self._run))

    def _own_time_ns(self, of: str) -> tuple[int, int] | None:
        """Return start and end of flows that end with their last byte; None where one does not.

        Of one flow, or, for all flows and for links, of them all.
        """
        flows: list[dict[str, Any]] = self._run.scenario["flows"]
        spans = []
        for flow in [flow for flow in flows if flow["name"] == of] or flows:
            took_ns = completion_ns(self._run, flow)
            if took_ns is None:
                return None
            spans.append((flow["start_ns"], flow["start_ns"] + took_ns))
        return min(start for start, _ in spans), max(end for _, end in spans)

    def _own_rate_bps(self, of: str) -> float | None:
        """Return the rate over that time; samples are too coarse for it, so by all bytes."""
        span = self._own_time_ns(of)
        if span is None:
            return None
        names = [flow["name"] for flow in self._run.scenario["flows"]]
        length_ns = span[1] - span[0]
        if of not in ("total", *names):
            whole_bps = self._rates.of(of, 0, self._end_ns)
            return None if whole_bps is None else whole_bps * self._end_ns / length_ns
        size_bytes = sum(
            end["bytes"] for end in self._run.metadata["flows"] if of in ("total", end["flow"])
        )
        return float(size_bytes * 8 * NANOSECONDS / length_ns)


def checks(run: Run) -> list[Check]:
    """Hold a run against its scenario's expectations."""
    measurement = Measurement(run)
    results = []
    for expectation in run.scenario["expectations"]:
        where = expectation["of"], expectation["stage"], expectation["settle_ns"]
        measured, outcome = measurement.rate_bps(*where)
        results.append(
            Check(
                what=measurement.name(*where),
                measured_bps=measured,
                expected_bps=expectation["value_bps"],
                tolerance=expectation["tolerance"],
                at_least=expectation["at_least"],
                outcome=outcome if measured is None else _outcome(measured, expectation),
                source=expectation["source"],
            )
        )
    return results


def comparisons(run: Run, measured: Iterable[Mapping[str, Any]] | None = None) -> list[Comparison]:
    """Set what the report measured (the scenario's own values, or these) beside this run's."""
    measurement = Measurement(run)
    items = run.scenario["report"]["measured"] if measured is None else measured
    return [
        Comparison(
            what=measurement.name(value["of"], value["stage"]),
            measured_bps=measurement.rate_bps(value["of"], value["stage"])[0],
            report_bps=value["value_bps"],
            source=value["source"],
            note=value["note"],
            kind=kind_of(value),
        )
        for value in items
    ]


def kind_of(value: Mapping[str, Any]) -> str:
    """Return the kind of a report's value in ``run.json``; old runs have measured ones alone."""
    return str(value.get("kind", "measured"))


def findings_of(run: Run, stage: int | None) -> list[str]:
    """Return what the report observed without a value: in a stage, or (None) of the whole run."""
    return [
        f"{finding['text']} ({finding['source']})"
        for finding in run.scenario["report"].get("findings", ())
        if finding["stage"] == stage
    ]


def _outcome(measured_bps: float, expectation: Mapping[str, Any]) -> Outcome:
    if expectation["at_least"]:
        return "met" if measured_bps >= expectation["value_bps"] else "missed"
    away = abs(measured_bps - expectation["value_bps"])
    return "met" if away <= expectation["tolerance"] * expectation["value_bps"] else "missed"

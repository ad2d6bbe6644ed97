"""A run held against what was expected of it and what the 2012 report measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mptcplab.results.run import Run
from mptcplab.results.summary import Rates, stages
from mptcplab.units import NANOSECONDS, format_rate

Outcome = Literal["met", "missed", "not measured"]


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
    def text(self) -> str:
        """One line a person can read."""
        wanted = (
            f"at least {format_rate(self.expected_bps)}"
            if self.at_least
            else f"{format_rate(self.expected_bps)} ± {self.tolerance:.0%}"
        )
        if self.measured_bps is None:
            return f"{self.what}: not measured, expected {wanted}"
        away = self.measured_bps / self.expected_bps - 1
        return (
            f"{self.what}: {format_rate(self.measured_bps)} ({away:+.1%}), "
            f"expected {wanted}: {self.outcome}"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One value of the 2012 report beside this run's."""

    what: str
    measured_bps: float | None
    report_bps: int
    source: str
    note: str


def checks(run: Run) -> list[Check]:
    """Hold a run against its scenario's expectations."""
    rates, cuts = Rates(run), stages(run)
    found = []
    for item in run.scenario["expectations"]:
        measured = _measured(run, rates, cuts, item, item["settle_ns"])
        found.append(
            Check(
                what=_name(item, cuts),
                measured_bps=measured,
                expected_bps=item["value_bps"],
                tolerance=item["tolerance"],
                at_least=item["at_least"],
                outcome=_outcome(measured, item),
                source=item["source"],
            )
        )
    return found


def comparisons(run: Run) -> list[Comparison]:
    """Set what the report measured beside what this run measured, over the same stretches."""
    rates, cuts = Rates(run), stages(run)
    return [
        Comparison(
            what=_name(item, cuts),
            measured_bps=_measured(run, rates, cuts, item, 0),
            report_bps=item["value_bps"],
            source=item["source"],
            note=item["note"],
        )
        for item in run.scenario["report"]["measured"]
    ]


def _name(item: dict[str, Any], cuts: list[tuple[int, int]]) -> str:
    what = "goodput" if item["of"] == "total" else str(item["of"])
    if item["stage"] is None:
        return f"{what}, whole run"
    if item["stage"] >= len(cuts):
        return f"{what}, stage {item['stage'] + 1}"
    start_ns, end_ns = cuts[item["stage"]]
    return (
        f"{what}, stage {item['stage'] + 1} "
        f"({start_ns / NANOSECONDS:g} to {end_ns / NANOSECONDS:g} s)"
    )


def _measured(
    run: Run, rates: Rates, cuts: list[tuple[int, int]], item: dict[str, Any], settle_ns: int
) -> float | None:
    stage = item["stage"]
    if stage is None:
        start_ns, end_ns = 0, run.metadata["measured_ns"]
    elif stage < len(cuts):
        start_ns, end_ns = cuts[stage]
    else:
        return None
    start_ns += settle_ns
    if end_ns <= start_ns:
        return None
    return rates.of(item["of"], start_ns, end_ns)


def _outcome(measured: float | None, item: dict[str, Any]) -> Outcome:
    if measured is None:
        return "not measured"
    if item["at_least"]:
        return "met" if measured >= item["value_bps"] else "missed"
    away = abs(measured - item["value_bps"])
    return "met" if away <= item["tolerance"] * item["value_bps"] else "missed"

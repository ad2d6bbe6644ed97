"""Runs of one scenario with different seeds: means, 95 % intervals, and verdicts on them.

Runs that are not valid are counted, named and left out.  A verdict is on the mean and its interval:
where the interval reaches across the limit, the runs do not decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mptcplab.limits.runs import mean_limits, run_limits
from mptcplab.report.comparison import Quantity, measured, with_margin
from mptcplab.report.latency import latency_checks
from mptcplab.report.limits import as_json as as_limits_json
from mptcplab.report.verdict import Check, Measurement, checks, comparisons
from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate, estimate
from mptcplab.results.summary import stages, summarise
from mptcplab.units import format_rate

Outcome = Literal["met", "missed", "undecided", "not measured", "too short"]


def valid_ones(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that count: those that are valid."""
    return [run for run in runs if run.metadata["valid"]]


def invalid_reasons(runs: Sequence[Run]) -> list[str]:
    """Return each reason why a run is not valid, with its seed."""
    return [
        f"seed {run.scenario['seed']}: {reason}"
        for run in runs
        for reason in run.metadata["invalid_reasons"]
    ]


def mean_of(values: Sequence[float | None]) -> Estimate | None:
    """Return the mean of what all runs have; None where one lacks it, or there are none."""
    known = [value for value in values if value is not None]
    return estimate(known) if known and len(known) == len(values) else None


def mean_rate(
    measurements: Sequence[Measurement], of: str, stage: int | None
) -> tuple[Estimate | None, str]:
    """Return the mean rate (bit/s) over runs and "met", or None and why there is none."""
    rates = [measurement.rate_bps(of, stage) for measurement in measurements]
    reason = next((why for rate, why in rates if rate is None), "no valid run")
    value = mean_of([rate for rate, _ in rates])
    return value, "met" if value is not None else reason


@dataclass(frozen=True, slots=True)
class MeanCheck:
    """One expectation, the mean that is held against it (bit/s), and what became of it."""

    check: Check
    """As it is for the first run: what is expected."""
    measured: Estimate | None
    outcome: Outcome

    @property
    def text(self) -> str:
        """One line a person can read."""
        wanted = self.check.wanted
        if self.measured is None:
            return f"{self.check.what}: {self.outcome}, expected {wanted}"
        away = self.measured.mean / self.check.expected_bps - 1
        return (
            f"{self.check.what}: {with_margin(format_rate, self.measured)} ({away:+.1%}), "
            f"expected {wanted}: {self.outcome}"
        )


def mean_checks(runs: Sequence[Run]) -> list[MeanCheck]:
    """Hold the mean of some runs against their scenario's expectations."""
    results = []
    for several in zip(*(checks(run) for run in runs), strict=True):
        value = mean_of([check.measured_bps for check in several])
        missing: list[Outcome] = [
            "too short" if check.outcome == "too short" else "not measured"
            for check in several
            if check.measured_bps is None
        ]
        outcome = missing[0] if value is None else _judged(several[0], value)
        results.append(MeanCheck(several[0], value, outcome))
    return results


def _judged(check: Check, value: Estimate) -> Outcome:
    """Say whether the interval lies within what is expected, beyond it, or across its limit."""
    if value.margin is None:
        return "undecided"
    low, high = value.mean - value.margin, value.mean + value.margin
    least, most = check.bounds_bps
    if low >= least and high <= most:
        return "met"
    return "missed" if high < least or low > most else "undecided"


@dataclass(frozen=True, slots=True)
class MeanComparison:
    """One value of the 2012 report beside the mean of some runs (bit/s).

    ``kind`` is as in :class:`mptcplab.report.verdict.Comparison`.
    """

    what: str
    measured: Estimate | None
    report_bps: int
    source: str
    note: str
    kind: str


def mean_comparisons(runs: Sequence[Run]) -> list[MeanComparison]:
    """Set what the report gives beside the mean of some runs."""
    return [
        MeanComparison(
            several[0].what,
            mean_of([row.measured_bps for row in several]),
            several[0].report_bps,
            several[0].source,
            several[0].note,
            several[0].kind,
        )
        for several in zip(*(comparisons(run) for run in runs), strict=True)
    ]


def mean_quantities(runs: Sequence[Run]) -> dict[Quantity, Estimate | None]:
    """Return the mean time of each flow with a size and the mean goodput of each flow."""
    values: dict[Quantity, list[float | None]] = {}
    for run in runs:
        of_run: dict[Quantity, float | None] = {
            Quantity(f"goodput of {flow['name']}", False): flow["goodput_bps"]
            for flow in summarise(run)["flows"]
        }
        for quantity, value in (of_run | measured(run)).items():
            values.setdefault(quantity, []).append(value)
    return {quantity: mean_of(found) for quantity, found in values.items()}


def summarise_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the object of ``mptcplab run --repetitions N --json``.

    ``docs/reference/results.md`` explains it.
    """
    used = valid_ones(runs)
    first = summarise(runs[0])
    summaries = [summarise(run) for run in used]
    return {
        "scenario": first["scenario"],
        "testbed": first["testbed"],
        "repetitions": len(runs),
        "seeds": [run.scenario["seed"] for run in runs],
        "runs": [str(run.folder) for run in runs],
        "valid": len(used) == len(runs),
        "valid_runs": len(used),
        "invalid_reasons": invalid_reasons(runs),
        "settle_s": first["settle_s"],
        "quantities": [
            {
                "name": quantity.name,
                "unit": "s" if quantity.is_time else "bit/s",
                "value": as_json(value),
            }
            for quantity, value in mean_quantities(used).items()
        ],
        "links": [
            {
                "name": link["name"],
                "configured_bps": link["configured_bps"],
                **{
                    key: as_json(mean_of([each["links"][at][key] for each in summaries]))
                    for key in ("mean_bps", "utilisation")
                },
                "driver": link["driver"],
            }
            for at, link in enumerate(first["links"])
        ],
        "stages": [
            {
                "stage": number,
                "start_s": stage["start_s"],
                "end_s": stage["end_s"],
                "goodput_bps": as_json(_of_stage(summaries, number, None)),
                "links": {
                    link["name"]: as_json(_of_stage(summaries, number, link["name"]))
                    for link in first["links"]
                },
            }
            for number, stage in enumerate(first["stages"])
        ],
        "verdict": [
            {
                "what": each.check.what,
                "measured_bps": as_json(each.measured),
                "expected_bps": each.check.expected_bps,
                "at_least": each.check.at_least,
                "tolerance": each.check.tolerance,
                "outcome": each.outcome,
                "source": each.check.source,
            }
            for each in mean_checks(used)
        ],
        "latency_verdict": [
            {
                "what": check.what,
                "measured_s": as_json(check.measured_s),
                "most_s": check.most_s,
                "outcome": check.outcome,
                "source": check.source,
            }
            for check in (latency_checks(used) if used else ())
        ],
        "report": first["report"],
        "limits": as_limits_json(mean_limits([run_limits(run) for run in used])),
    }


def stage_means(runs: Sequence[Run]) -> list[dict[str | None, Estimate | None]]:
    """Return, by stage, the mean rate of each link, and of the goodput under None."""
    summaries = [summarise(run) for run in runs]
    if not runs:
        return []
    names = [None, *(link["name"] for link in summaries[0]["links"])]
    return [
        {name: _of_stage(summaries, number, name) for name in names}
        for number in range(len(stages(runs[0])))
    ]


def _of_stage(
    summaries: Sequence[Mapping[str, Any]], number: int, link: str | None
) -> Estimate | None:
    values: list[float | None] = []
    for summary in summaries:
        reached = number < len(summary["stages"])
        stage = summary["stages"][number] if reached else {"goodput_bps": None, "links": {}}
        values.append(stage["goodput_bps"] if link is None else stage["links"].get(link))
    return mean_of(values)


def as_json(value: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as JSON has it: ``mean``, ``margin`` (null where unknown), ``count``."""
    if value is None:
        return None
    return {"mean": value.mean, "margin": value.margin, "count": value.count}

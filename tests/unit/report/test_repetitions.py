"""Means over repeated runs, and verdicts on them."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from mptcplab.cli.render import describe_runs
from mptcplab.report.comparison import Quantity, Values, compared, with_margin
from mptcplab.report.differences import percent_text
from mptcplab.report.figure import draw_throughput
from mptcplab.report.repetitions import mean_checks, mean_quantities, summarise_runs, valid_ones
from mptcplab.report.verdict import Measurement, checks
from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate
from mptcplab.units import format_rate

GOODPUT = Quantity("goodput", False)


def with_expectations(run: Run, *wanted: tuple[int, bool]) -> Run:
    template = run.scenario["expectations"][3]
    run.scenario["expectations"] = [
        {**template, "value_bps": value, "at_least": at_least} for value, at_least in wanted
    ]
    return run


class Scaled(Run):
    """A run whose rates are another's times a factor."""

    def __init__(self, run: Run, factor: float, seed: int) -> None:
        super().__init__(run.folder)
        self.metadata = deepcopy(run.metadata)
        self.__dict__["scenario"] = {**run.scenario, "seed": seed}
        self.factor = factor

    def rows(self, name: str) -> list[dict[str, object]]:
        rows = super().rows(name)
        for row in rows:
            for column in ("bytes", "goodput_bps", "tx_bytes", "bps"):
                if column in row:
                    row[column] *= self.factor
        return rows


@pytest.fixture
def runs(run: Run) -> list[Run]:
    """Return three runs of 0.9, 1 and 1.1 times 13.6 Mb/s: 13.6 ± 3.4 Mb/s."""
    return [Scaled(run, factor, seed) for seed, factor in enumerate((0.9, 1.0, 1.1), 1)]


def test_a_verdict_on_the_mean_says_where_runs_do_not_decide(run: Run) -> None:
    wanted = with_expectations(run, (8_000_000, True), (13_000_000, True), (20_000_000, True))
    runs = [Scaled(wanted, factor, seed) for seed, factor in enumerate((0.9, 1.0, 1.1), 1)]
    assert [check.outcome for check in mean_checks(runs)] == ["met", "undecided", "missed"]
    assert [check.outcome for check in mean_checks(runs[:1])] == ["undecided"] * 3
    assert [check.outcome for check in checks(runs[1])] == ["met", "met", "missed"]
    assert "13.6 ± 3.4 Mb/s" in mean_checks(runs)[1].text


def test_invalid_runs_are_named_and_left_out(runs: list[Run]) -> None:
    runs[2].metadata |= {"valid": False, "invalid_reasons": ["too late"]}
    assert valid_ones(runs) == runs[:2]
    summary = summarise_runs(runs)
    assert (summary["valid"], summary["valid_runs"], summary["repetitions"]) == (False, 2, 3)
    assert summary["invalid_reasons"] == ["seed 3: too late"]
    assert summary["quantities"][0]["value"]["mean"] == pytest.approx(0.95 * 13.6e6)
    text = describe_runs(runs)
    assert "NOT VALID and left out: 1 of 3 runs" in text
    assert "seed 3: too late" in text
    json.dumps(summary)


def test_runs_of_which_none_is_valid_have_no_mean(runs: list[Run]) -> None:
    for run in runs:
        run.metadata |= {"valid": False, "invalid_reasons": ["too late"]}
    assert summarise_runs(runs)["quantities"] == []
    assert "left out: 3 of 3" in describe_runs(runs)
    invalid: list[list[Values | None]] = [[None, None], [{GOODPUT: 1.0}, {GOODPUT: 2.0}]]
    (nothing,), (result,) = compared([GOODPUT], invalid)
    assert nothing.text == "no valid run"
    assert result.outcome == "not judged"


def test_stages_have_the_same_number_everywhere(runs: list[Run]) -> None:
    text = describe_runs(runs)
    assert "stage  from" in text
    assert "goodput, stage 0 (0 to 4 s)" in text
    assert [stage["stage"] for stage in summarise_runs(runs)["stages"]] == [0, 1, 2]


def test_what_settles_is_left_out_of_flows_links_and_stages(run: Run) -> None:
    # link two carries nothing from 4 to 7 s: 13 Mb/s of 16 without the first 4 s
    run.scenario["settle_ns"] = 4_000_000_000
    assert mean_quantities([run])[Quantity("goodput of main", False)] == Estimate(12e6, None, 1)
    summary = summarise_runs([run])
    assert summary["settle_s"] == 4
    assert [stage["goodput_bps"] for stage in summary["stages"]] == [None, None, None]
    run.scenario["settle_ns"] = 2_000_000_000
    stages = summarise_runs([run])["stages"]
    assert stages[2]["goodput_bps"]["mean"] == 16e6  # from 8 to 10 s
    run.scenario["expectations"] = []  # which may say otherwise for their stages
    assert Measurement(run).rate_bps("total", 0) == (16e6, "met")
    assert "after 2 s" in Measurement(run).name("total", 0)


def test_a_flow_with_a_size_is_measured_over_its_own_time(run: Run) -> None:
    run.scenario["flows"][0] |= {"size_bytes": 17_000_000, "start_ns": 1_000_000_000}
    run.metadata["flows"][0]["end_ns"] = 3_000_000_000
    measurement = Measurement(run)
    for of in ("total", "main"):
        assert measurement.rate_bps(of, None) == (68e6, "met")
        assert measurement.name(of, None).endswith("until the last byte")


def test_several_comparisons_are_corrected_together() -> None:
    base = [{GOODPUT: value} for value in (10.0, 10.2, 9.8, 10.1)]
    other = [{GOODPUT: value} for value in (10.4, 10.3, 10.5, 10.2)]  # p = 0.03
    _, (alone,) = compared([GOODPUT], [base, other])
    assert alone.outcome == "better"
    _, *several = compared([GOODPUT], [base, other, other, other])
    assert {result.outcome for (result,) in several} == {"no difference shown"}


def test_a_margin_is_never_shown_as_nothing() -> None:
    assert with_margin(format_rate, Estimate(1e6, 20.0, 3)) == "1 ± <0.001 Mb/s"
    assert with_margin(format_rate, Estimate(1.234e6, 20.0, 3)) == "1.234 ± <0.001 Mb/s"
    base = [{GOODPUT: 1e6 + 10 * seed} for seed in range(3)]
    other = [{GOODPUT: 1.01e6 - 10 * seed} for seed in range(3)]
    (first,), (result,) = compared([GOODPUT], [base, other])
    assert percent_text(result.difference, first.value) == "+1.0 ± <0.1 %"


@pytest.mark.slow
def test_repeated_runs_are_drawn_in_a_band(runs: list[Run], tmp_path: Path) -> None:
    text = draw_throughput(runs, tmp_path / "throughput")[1].read_text()
    assert "mean of 3 runs and 95 % interval" in text
    assert "FillBetweenPolyCollection" in text or "PolyCollection" in text


@pytest.mark.slow
def test_a_dollar_in_a_title_is_drawn_as_one(run: Run, tmp_path: Path) -> None:
    run.scenario["title"] = "cost $1_$2"
    assert "cost $1_$2" in draw_throughput(run, tmp_path / "throughput")[1].read_text()


def test_what_links_could_carry_stands_apart_from_what_2012_measured(runs: list[Run]) -> None:
    text = describe_runs(runs)
    measured, rest = text.split("Beside what the links could carry", 1)
    carried, found = rest.split("What happened in 2012", 1)
    assert "these runs" in measured
    assert "16 ± 4 Mb/s" in measured.split("Beside the 2012 report", 1)[1]
    assert "table 2" in measured
    assert "table 3" not in measured
    assert "16 ± 4 Mb/s" in carried
    assert "table 3" in carried
    assert "stage 2: the other link stood idle (figure 14)" in found

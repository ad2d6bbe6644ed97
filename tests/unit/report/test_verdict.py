"""Expectations against a run whose numbers are known."""

from tests.times import SECOND

from mptcplab.cli.render import describe
from mptcplab.report.verdict import checks, comparisons
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise


def test_each_expectation_is_held_against_its_own_stage(run: Run) -> None:
    found = checks(run)
    assert [check.outcome for check in found] == ["met", "met", "met", "missed"]
    assert [check.measured_bps for check in found] == [16e6, 8e6, 16e6, 13.6e6]


def test_a_stage_that_has_not_settled_misses(run: Run) -> None:
    run.scenario["expectations"][2]["settle_ns"] = 0
    check = checks(run)[2]
    assert check.outcome == "missed"
    assert check.measured_bps == 14e6
    assert "stage 2 (6 to 10 s): 14 Mb/s (-12.5%)" in check.text


def test_of_several_settling_times_the_longest_that_leaves_enough_counts(run: Run) -> None:
    """A run too short for one expectation is judged by another, and set beside the report so."""
    whole = run.scenario["expectations"][3]
    run.scenario["expectations"] = [{**whole, "settle_ns": s * SECOND} for s in (20, 1, 5)]
    run.scenario["report"]["measured"] = [
        {**run.scenario["report"]["measured"][0], "stage": None},
    ]
    (item,) = comparisons(run)
    assert "after 5 s" in item.what
    assert [check.outcome for check in checks(run)] == ["too short", "missed", "missed"]
    run.metadata["measured_ns"] = 4 * SECOND
    (item,) = comparisons(run)
    assert "after 1 s" in item.what
    assert item.measured_bps == 16e6


def test_what_was_cut_short_is_not_measured(run: Run) -> None:
    run.metadata["measured_ns"] = 5_000_000_000
    outcomes = [check.outcome for check in checks(run)]
    assert outcomes == ["met", "too short", "not measured", "met"]


def test_the_report_stands_beside_the_run(run: Run) -> None:
    item, carried = comparisons(run)
    assert (item.measured_bps, item.report_bps, item.source) == (16e6, 16_000_000, "table 2")
    assert (item.kind, carried.kind) == ("measured", "capacity")


def test_what_links_could_carry_is_not_called_measured(run: Run) -> None:
    beside, carry = describe(run).split("could carry", 1)
    assert "table 2" in beside
    assert "table 3" not in beside
    assert "table 3" in carry
    assert "stage 2: the other link stood idle (figure 14)" in carry


def test_a_run_of_before_there_were_kinds_can_be_shown(run: Run) -> None:
    del run.scenario["report"]["findings"]
    for value in run.scenario["report"]["measured"]:
        del value["kind"]
    assert {item.kind for item in comparisons(run)} == {"measured"}
    assert "table 3" in describe(run)


def test_the_summary_has_the_fields_that_scripts_read(run: Run) -> None:
    summary = summarise(run)
    assert summary["flows"] == [
        {
            "name": "main",
            "protocol": "mptcp",
            "goodput_bps": 13.6e6,
            "bytes": 17_000_000,
            "drained_bytes": None,
            "intact": True,
            "requests": None,
            "pages": None,
            "video": None,
            "messages": None,
        }
    ]
    assert summary["links"][1] == {
        "name": "two",
        "configured_bps": 8_000_000,
        "mean_bps": 5.6e6,
        "driver": "tap",
        "utilisation": None,
    }
    assert [stage["start_s"] for stage in summary["stages"]] == [0, 4, 6]
    assert summary["stages"][1]["links"] == {"one": 8e6, "two": 0}

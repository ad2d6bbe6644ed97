"""Variants side by side."""

from pathlib import Path

import pytest

from mptcplab.report.figure import draw_side_by_side
from mptcplab.report.sweep import Row, Variant, draw_sweep, rows_of
from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate


def one(bps: float) -> Estimate:
    return Estimate(bps, None, 1)


def value(bps: int, of: str = "total", stage: int | None = None) -> dict[str, object]:
    return {"value_bps": bps, "of": of, "stage": stage, "source": "text", "note": ""}


def test_a_run_is_told_stage_by_stage_with_all_that_the_report_gives(run: Run) -> None:
    measured = [value(17_000_000, stage=0), value(18_000_000, stage=0), value(6_000_000, "two")]
    assert rows_of(Variant("tiny", measured, runs={"linux": [run]})) == [
        Row("goodput, stage 0 (0 to 4 s)", {"linux": one(16e6)}, (17_000_000, 18_000_000)),
        Row("goodput, stage 1 (4 to 6 s)", {"linux": one(8e6)}, ()),
        Row(
            "goodput, stage 2 (6 to 10 s, after 1 s)",
            {"linux": one(16e6)},
            (),
            findings=("the other link stood idle (figure 14)",),
        ),
        Row("one, stage 2 (6 to 10 s, after 1 s)", {"linux": one(8e6)}, ()),
        Row("two, stage 2 (6 to 10 s, after 1 s)", {"linux": one(8e6)}, ()),
        Row("two, whole run", {"linux": one(5.6e6)}, (6_000_000,)),
    ]


def test_what_links_could_carry_has_a_place_of_its_own(run: Run) -> None:
    measured = [{**value(20_000_000, stage=0), "kind": "capacity"}, value(1_000_000, stage=1)]
    first, second, *_ = rows_of(Variant("tiny", measured, runs={"linux": [run]}))
    assert (first.report_bps, first.capacity_bps) == ((), 20_000_000)
    assert (second.report_bps, second.capacity_bps) == ((1_000_000,), None)


def test_testbeds_are_compared_link_by_link(run: Run) -> None:
    rows = rows_of(Variant("tiny", runs={"linux": [run], "simulated": [run]}))
    expected = {"linux": one(8e6), "simulated": one(8e6)}
    assert rows[2] == Row("two, stage 0 (0 to 4 s)", expected, ())


@pytest.mark.slow
def test_bars_name_every_link_and_variant(run: Run, tmp_path: Path) -> None:
    variants = [
        Variant("small", [value(12_000_000)], runs={"linux": [run], "simulated": [run]}),
        Variant("ample", runs={"linux": [run]}),
    ]
    png, svg = draw_sweep("tiny", "buffer", variants, tmp_path / "sweep")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    for words in ("small", "ample", "one", "two", "2012 report", "on simulated", "in sum"):
        assert f"<!-- {words}" in text


@pytest.mark.slow
def test_long_labels_leave_room_for_the_bars(run: Run, tmp_path: Path) -> None:
    variants = [
        Variant(ending.rjust(300, "x"), runs={"linux": [run]}) for ending in ("small", "ample")
    ]
    _, svg = draw_sweep("t" * 300, "buffer", variants, tmp_path / "sweep")  # without a warning
    text = svg.read_text()
    assert "xsmall -->" in text
    assert "xample -->" in text
    assert "x" * 60 not in text


@pytest.mark.slow
def test_testbeds_stand_side_by_side(run: Run, tmp_path: Path) -> None:
    runs = {"linux": run, "simulated": run}
    measured = [value(16_000_000), {**value(17_000_000, stage=0), "kind": "capacity"}]
    _, svg = draw_side_by_side("tiny", runs, measured, tmp_path / "both")
    text = svg.read_text()
    for words in (
        "on linux",
        "on simulated",
        "sum of the links",
        "2012 report, in sum",
        "what the links could carry",
    ):
        assert text.count(f"<!-- {words}") == 1, words
    assert text.count("<!-- 2012: the other link") == 2, "the finding, in each panel"


@pytest.mark.slow
def test_several_flows_are_told_by_link_where_the_report_gives_links(
    run: Run, tmp_path: Path
) -> None:
    run.scenario["flows"].append({**run.scenario["flows"][0], "name": "other"})
    for measured, told in (([value(16_000_000)], "flows"), ([value(8_000_000, "two")], "links")):
        _, svg = draw_side_by_side("tiny", {"linux": run}, measured, tmp_path / told)
        assert f"<!-- sum of the {told}" in svg.read_text()

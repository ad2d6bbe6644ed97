"""Variants side by side."""

from pathlib import Path

from mptcplab.report.sweep import Variant, draw_sweep, outcome_of
from mptcplab.results.run import Run


def test_an_outcome_is_the_run_in_short(run: Run) -> None:
    outcome = outcome_of(run)
    assert outcome.goodput_bps == 13.6e6
    assert outcome.links_bps == {"one": 8e6, "two": 5.6e6}
    assert outcome.valid


def test_bars_name_every_link_and_variant(run: Run, tmp_path: Path) -> None:
    outcome = outcome_of(run)
    variants = [
        Variant("small", 1, 12_000_000, {"linux": outcome, "simulated": outcome}),
        Variant("ample", 2, None, {"linux": outcome}),
    ]
    png, svg = draw_sweep("tiny", "buffer", variants, tmp_path / "sweep")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    for words in ("small", "ample", "one", "two", "2012 report", "on simulated"):
        assert f"<!-- {words}" in text

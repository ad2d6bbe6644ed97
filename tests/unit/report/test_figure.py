"""The figure shows what the run holds."""

import re
from pathlib import Path
from typing import Any

import pytest

from mptcplab.report.figure import draw_throughput
from mptcplab.results.run import Run


@pytest.mark.slow
def test_png_and_svg_are_drawn_and_name_links_and_actions(run: Run, tmp_path: Path) -> None:
    png, svg = draw_throughput(run, tmp_path / "throughput")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    for words in ("two returns", "two down", "sum of the links", "time (s)"):
        assert f"<!-- {words}" in text or words in text


@pytest.mark.slow
def test_the_same_run_draws_the_same_bytes(run: Run, tmp_path: Path) -> None:
    first = draw_throughput(run, tmp_path / "a")
    second = draw_throughput(run, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.slow
def test_a_run_without_traffic_still_draws(run: Run, tmp_path: Path) -> None:
    (run.folder / "flows.parquet").unlink()
    (run.folder / "links.parquet").unlink()
    from mptcplab.results.writer import RunWriter

    empty = Run(RunWriter(tmp_path / "empty").finish(valid=True))
    empty.metadata.update(run.metadata)
    assert draw_throughput(empty, tmp_path / "throughput")[0].exists()


@pytest.mark.slow
def test_links_in_series_have_no_sum(run: Run, tmp_path: Path) -> None:
    for link, ends in zip(
        run.scenario["topology"]["links"],
        (("left:eth0", "hub"), ("hub", "right:eth1")),
        strict=True,
    ):
        link["a"], link["b"] = ends
    text = draw_throughput(run, tmp_path / "throughput")[1].read_text()
    assert "sum of the links" not in text
    assert "goodput of the flows" in text


@pytest.mark.slow
def test_several_flows_and_their_links_are_drawn(run: Run, tmp_path: Path) -> None:
    run.scenario["flows"].append({**run.scenario["flows"][0], "name": "other"})
    run.scenario["title"] = ""
    text = draw_throughput(run, tmp_path / "throughput")[1].read_text()
    assert "throughput of the links (Mb/s)" in text
    assert "sum of the flows" in text
    assert "<!-- tiny (on" in text


@pytest.mark.slow
def test_of_many_flows_a_legend_names_the_first_and_how_many_more(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = run.scenario["flows"][0]
    run.scenario["flows"] = [{**flow, "name": f"flow{number}"} for number in range(128)]
    rows, read = run.rows("flows")[:3], run.rows
    many = [{**row, "flow": each["name"]} for each in run.scenario["flows"] for row in rows]

    def rows_of(name: str) -> list[dict[str, Any]]:
        return many if name == "flows" else read(name)

    monkeypatch.setattr(run, "rows", rows_of)
    svg = draw_throughput(run, tmp_path / "many")[1].read_text()
    assert "flow15" in svg
    assert "flow16" not in svg
    assert re.findall(r"and (\d+) more", svg) == ["115"]  # with their sum and two of the report

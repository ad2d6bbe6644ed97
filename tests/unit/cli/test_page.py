"""``mptcplab page``: what it takes, what it writes, and what it says of what it cannot show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.many_connections import capture
from tests.unit.report.test_page import Seen, comparison

from mptcplab.cli.main import main

HANDOVER = Path(__file__).parents[2] / "captures" / "handover.pcap.gz"


def written(path: Path) -> Seen:
    return Seen(path.read_text(encoding="utf-8"))


def test_a_capture_becomes_a_page_named_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["page", str(HANDOVER)]) == 0
    assert capsys.readouterr().out.startswith("Page    handover.html (0.")
    data, view = written(tmp_path / "handover.html").data[:2]
    assert data["left_out"] == 0
    styles = {plot["key"]: plot["style"] for plot in view["plots"]}
    assert styles["limits-0"] == "shares"
    assert styles["throughput-0"] == "rate"
    assert styles["dsn-0"] == styles["rtt-0"] == "points"
    assert len(view["drawing"]["edges"]) > 1
    assert view["span"][0] <= view["events"][0][0] <= view["span"][1]
    assert "of the time" in view["text"]
    assert "What happened" in view["words"]


def test_the_bytes_of_a_capture_are_all_in_its_throughput(tmp_path: Path) -> None:
    path = tmp_path / "few.pcap"
    path.write_bytes(capture(2, rounds=20))
    assert main(["page", str(path), "-o", str(tmp_path / "few.html")]) == 0
    data = written(tmp_path / "few.html").data
    for view in data[1:]:
        plot = next(one for one in view["plots"] if one["key"] == "throughput-0")
        carried = []
        for series in plot["series"]:
            steps = [step / 1e6 for step in series["t"]]
            carried.append(sum(a * b for a, b in zip(steps[1:], series["y"][1:], strict=True)) / 8)
        *subflows, total = carried
        assert subflows == pytest.approx([20 * 2 * 1400] * 2, rel=0.001)
        assert total == pytest.approx(sum(subflows), rel=0.001)


def test_one_connection_of_many(tmp_path: Path) -> None:
    path, output = tmp_path / "few.pcap", tmp_path / "one.html"
    path.write_bytes(capture(30))
    assert main(["page", str(path), "-o", str(output)]) == 0
    rows = written(output).data[0]["listing"]["rows"]
    assert sorted(row[0][1] for row in rows) == list(range(30))
    assert main(["page", str(path), "-o", str(output), "--connection", "7"]) == 0
    data = written(output).data
    assert [name.split(":")[0] for name in data[0]["connections"]] == ["7"]
    assert data[0]["listing"] is None


def test_several_sources_are_parts_of_one_page(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    output = tmp_path / "both.html"
    assert main(["page", str(folder), str(HANDOVER), "-o", str(output), "--title", "Both"]) == 0
    seen = written(output)
    assert seen.tags["article"] == 2
    assert [value for _, name, value in seen.attributes if name == "href"] == [
        "#part-0", "#part-0", "#part-1",
    ]  # fmt: skip
    assert "Both" in seen.text


def test_a_page_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    output.write_text("before")
    assert main(["page", str(HANDOVER), "-o", str(output)]) == 0
    assert output.read_text().startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [output]
    umask = os.umask(0)
    os.umask(umask)
    assert output.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nowhere"], 2, "nowhere: there is no such file or folder; expected the folder of a run"),
        (["text"], 2, "text: "),
        (
            ["runs"],
            2,
            "runs: is neither a run nor a comparison nor a sweep, and holds the runs ",
        ),
        (["empty"], 2, "empty: "),
        (["damaged"], 2, "damaged/comparison.json: not JSON: "),
        ([str(HANDOVER), "--connection", "99"], 2, "--connection 99: MPTCP connections are number"),
        ([str(HANDOVER), "-o", "runs"], 2, "-o runs: is a folder; expected the name of a file"),
        ([str(HANDOVER), "-o", "no/where.html"], 3, "no/where.html: cannot be written: No such"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no capture")
    (tmp_path / "empty").mkdir()
    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    comparison(tmp_path / "damaged")
    (tmp_path / "damaged" / "comparison.json").write_text("{")
    assert main(["page", *arguments]) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


TWO_ENDS = """
duration = "500ms"
interval = "100ms"
captures = ["a:eth0", "b:eth0"]
hosts = ["a", "b"]
links.l = { between = ["a", "b"], rate = "1Mb/s", rtt = "20ms" }
flows.f = { from = "a", to = "b" }
"""


def test_captures_of_both_ends_are_one_part_and_others_parts_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "ends.toml"
    scenario.write_text(TWO_ENDS)
    assert main(["run", str(scenario), "--out", str(tmp_path / "run")]) == 0
    near, far = (str(tmp_path / "run" / f"{host}.pcapng") for host in "ab")
    output = tmp_path / "page.html"
    assert main(["page", far, near, "-o", str(output)]) == 0
    together = written(output)
    assert together.tags["article"] == 1
    text = output.read_text()
    assert "Between the two captures" in text
    assert "a.pcapng: nearer to the side that opened the connections" in text
    assert main(["page", near, str(HANDOVER), far, "-o", str(output)]) == 0
    assert written(output).tags["article"] == 2
    capsys.readouterr()

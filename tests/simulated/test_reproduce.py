"""`mptcplab reproduce`: the sweep of a scenario, summed up and drawn, and gone on with."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run

SCENARIO = """
title = "One link"
question = "What does the buffer change?"
duration = "4s"
hosts = ["alice", "bob"]

[links.only]
between = ["alice", "bob"]
rate = "10Mb/s"
rtt = "40ms"
queue = "1 BDP"

[flows.main]
from = "alice"
to = "bob"
buffer = "20kB"

[sweep]
axis = "buffer"

[[sweep.points]]
x = 1
label = "1 link, small buffer"
set = ["flows.main.buffer=20kB"]

[[sweep.points]]
x = 2
label = "1 link, large buffer"
set = ["flows.main.buffer=400kB"]
measured = [{ value = "9Mb/s", source = "a page" }]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "links.toml"
    path.write_text(SCENARIO)
    return path


def reproduce(out: Path, *words: str) -> int:
    return main(["reproduce", *words, "--out", str(out)])


def test_figures_without_a_title_are_headed_by_the_name(tmp_path: Path) -> None:
    untitled = tmp_path / "links.toml"
    untitled.write_text(SCENARIO.replace('title = "One link"\n', ""))
    assert reproduce(tmp_path / "out", str(untitled), "--duration", "1s") == 0
    (sweep,) = (tmp_path / "out" / "figures").glob("*sweep.svg")
    assert "<!-- links (above the bars: goodput) -->" in sweep.read_text()


@pytest.mark.slow
def test_a_sweep_is_run_summed_up_and_drawn(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert reproduce(out, str(scenario), "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry == json.loads((out / "summary.json").read_text())[0]
    small, large = entry["runs"]
    assert [small["label"], large["label"]] == ["1 link, small buffer", "1 link, large buffer"]
    rates = [item["rows"][0]["measured_bps"]["simulated"] for item in (small, large)]
    assert rates[0] < 4e6 < 8e6 < rates[1] < 10e6
    assert large["rows"][0]["report_bps"] == [9_000_000]
    assert all(item["testbeds"]["simulated"]["valid"] for item in (small, large))
    drawn = {path.name for path in (out / "figures").glob("*.png")}
    assert drawn == {
        "links-1-link-small-buffer.png",
        "links-1-link-large-buffer.png",
        "links-sweep.png",
    }
    assert "9 Mb/s" in (out / "summary.txt").read_text()


@pytest.mark.slow
def test_what_is_finished_is_not_run_again(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [str(scenario), "--point", "1 link, small buffer", "--duration", "1s"]
    assert reproduce(out, *words) == 0
    (finished,) = (out / "simulated" / "links").iterdir()
    before = (finished / "run.json").stat().st_mtime_ns
    assert reproduce(out, *words, "--point", "1 link, large buffer") == 0
    assert len(list((out / "simulated" / "links").iterdir())) == 2
    assert (finished / "run.json").stat().st_mtime_ns == before
    assert reproduce(out, *words[:-1], "2s") == 2, "the folder holds a run with other settings"


@pytest.mark.slow
def test_what_the_report_read_from_captures_is_drawn_from_captures(
    scenario: Path, tmp_path: Path
) -> None:
    changed = '["flows.main.buffer=20kB", \'captures=["alice:eth0"]\']\ninspect = { windows = 32 }'
    scenario.write_text(SCENARIO.replace('["flows.main.buffer=20kB"]', changed))
    out = tmp_path / "out"
    words = [str(scenario), "--duration", "1s", "--point", "1 link, small buffer"]
    assert reproduce(out, *words) == 0
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert drawn >= {"figure-32-simulated.png", "figure-32-simulated.svg"}


def test_a_point_of_one_testbed_is_left_out_on_the_other(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario.write_text(SCENARIO.replace('["flows.main.buffer=20kB"]', '[]\non = "linux"'))
    words = [str(scenario), "--duration", "1s", "--json"]
    assert reproduce(tmp_path / "out", *words) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    labels = [point["label"] for point in entry["runs"]]
    assert "1 link, small buffer" not in labels
    assert reproduce(tmp_path / "out", *words, "--point", "1 link, small buffer") == 2
    assert "runs on the linux testbed alone" in capsys.readouterr().err


def test_a_point_that_is_not_there(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce(tmp_path / "out", str(scenario), "--point", "no link") == 2
    said = capsys.readouterr().err
    assert 'there is no "no link"' in said
    assert "1 link, small buffer; 1 link, large buffer" in said
    assert not (tmp_path / "out").exists()


def test_what_is_set_counts_more_than_what_a_point_sets(scenario: Path, tmp_path: Path) -> None:
    words = [str(scenario), "--duration", "1s", "--point", "1 link, small buffer"]
    assert reproduce(tmp_path / "out", *words, "--set", "flows.main.receive_buffer=64kB") == 0
    (folder,) = (path.parent for path in (tmp_path / "out").rglob("run.json"))
    (flow,) = Run(folder).scenario["flows"]
    assert (flow["send_buffer_bytes"], flow["receive_buffer_bytes"]) == (20_000, 64_000)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_it_and_is_run_again(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [str(scenario), "--duration", "4s", "--jobs", "1"]

    class Interrupting(Silent):
        def tick(self, time_ns: int, *_: object) -> None:
            if time_ns >= 1_000_000_000:
                signal.raise_signal(signal.SIGINT)

        def close(self) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mptcplab.cli.progress.progress_for", lambda *_: Interrupting())
        assert reproduce(out, *words) == 130
    (cut,) = (out / "simulated" / "links").iterdir()
    assert Run(cut).is_cut
    assert reproduce(out, *words) == 0
    assert not Run(cut).is_cut
    assert len(list((out / "simulated" / "links").iterdir())) == 2


@pytest.mark.slow
def test_repetitions_give_means_and_are_gone_on_with(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [str(scenario), "--duration", "1s", "--point", "1 link, small buffer", "--json"]
    assert reproduce(out, *words, "--repetitions", "2") == 0
    folder = out / "simulated" / "links" / "1-link-small-buffer"
    assert {path.name for path in folder.iterdir()} == {"1", "2"}
    before = (folder / "1" / "run.json").stat().st_mtime_ns
    capsys.readouterr()
    assert reproduce(out, *words, "--repetitions", "3") == 0
    assert (folder / "1" / "run.json").stat().st_mtime_ns == before
    ((point,),) = (entry["runs"] for entry in json.loads(capsys.readouterr().out))
    assert point["testbeds"]["simulated"]["valid_runs"] == 3
    assert point["rows"][0]["margin_bps"]["simulated"] > 0
    assert "± 95 % confidence" in (out / "summary.txt").read_text()


@pytest.mark.slow
def test_means_stand_beside_what_2012_measured_and_what_links_could_carry(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = '{ value = "9Mb/s", source = "a page" }'
    capacity = '{ value = "9.5Mb/s", source = "a table", kind = "capacity" }'
    scenario.write_text(SCENARIO.replace(f"[{measured}]", f"[{measured}, {capacity}]"))
    out = tmp_path / "out"
    words = [str(scenario), "--duration", "1s", "--point", "1 link, large buffer"]
    assert reproduce(out, *words, "--repetitions", "2") == 0
    heading, _, row, *_ = (out / "summary.txt").read_text().splitlines()
    assert heading.split() == ["simulated", "2012", "could", "carry"]
    assert "±" in row
    assert row.endswith("9.5 Mb/s")
    assert row.removesuffix("9.5 Mb/s").rstrip().endswith("9 Mb/s")
    (entry,) = json.loads((out / "summary.json").read_text())
    first = entry["runs"][0]["rows"][0]
    assert (first["report_bps"], first["capacity_bps"]) == ([9_000_000], 9_500_000)


SIZED = SCENARIO.replace('buffer = "20kB"', 'size = "100kB"').replace(
    'measured = [{ value = "9Mb/s", source = "a page" }]', ""
)


@pytest.mark.slow
def test_a_flow_with_a_size_has_its_own_time_and_no_empty_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sized.toml"
    path.write_text(SIZED)
    out = tmp_path / "out"
    assert reproduce(out, str(path), "--point", "1 link, large buffer") == 0
    text = capsys.readouterr().out
    assert "2012" not in text
    (run,) = (Run(folder) for folder in (out / "simulated" / "sized").iterdir())
    main(["show", str(run.folder), "--json"])
    (flow,) = json.loads(capsys.readouterr().out)["flows"]
    (entry,) = json.loads((out / "summary.json").read_text())
    goodput, time = entry["runs"][0]["rows"]
    assert goodput["measured_bps"]["simulated"] == pytest.approx(flow["goodput_bps"])
    assert flow["goodput_bps"] > 1e6  # 0.2 Mb/s over the whole run
    assert time["measured_s"]["simulated"] == pytest.approx(8e5 / flow["goodput_bps"])


@pytest.mark.slow
def test_any_label_has_files_of_its_own(tmp_path: Path) -> None:
    text = SCENARIO.replace("1 link, small buffer", "loss 0.1 %").replace(
        "1 link, large buffer", "低"
    )
    path = tmp_path / "labels.toml"
    path.write_text(text)
    out = tmp_path / "out"
    assert reproduce(out, str(path), "--duration", "1s") == 0
    drawn = {path.name for path in (out / "figures").glob("*.png")}
    assert drawn == {"labels-loss-0.1.png", "labels-低.png", "labels-sweep.png"}


def test_points_need_not_fit_together(tmp_path: Path) -> None:
    second = '\n[links.second]\nbetween = ["alice", "bob"]\nrate = "1Mb/s"\nrtt = "10ms"\n'
    text = (
        SCENARIO.replace("\n[flows.main]", second + "\n[flows.main]")
        .replace('["flows.main.buffer=20kB"]', "['use=[\"only\"]']")
        .replace('["flows.main.buffer=400kB"]', "['flows.main.links=[\"second\"]']")
    )
    path = tmp_path / "apart.toml"
    path.write_text(text)
    out = tmp_path / "out"
    assert reproduce(out, str(path), "--duration", "1s") == 0
    folders = {folder.name for folder in (out / "simulated" / "apart").iterdir()}
    assert {"1-link-small-buffer", "1-link-large-buffer"} <= folders


def test_two_files_of_one_name_are_refused(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / scenario.name
    other.parent.mkdir()
    other.write_text(SCENARIO)
    assert reproduce(tmp_path / "out", str(scenario), str(other)) == 2
    assert "has the name of" in capsys.readouterr().err

"""Showing runs that are in read-only places, or damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mptcplab.cli.main import main

SCENARIO = """
duration = "100ms"
interval = "20ms"
hosts = ["a", "b"]
links.l = { between = ["a", "b"], rate = "1Mb/s" }
flows.f = { from = "a", to = "b" }
"""


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "own.toml"
    path.write_text(SCENARIO)
    folder = path.with_name("run")
    assert main(["run", str(path), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(finished_run: Path, tmp_path: Path) -> Path:
    """A copy with its scenario beside it; a test may damage it."""
    shutil.copy(finished_run.with_name("own.toml"), tmp_path)
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by /proc")
def test_no_thread_is_there_that_the_end_of_the_process_could_meet(folder: Path) -> None:
    count = (
        "import os, sys; from mptcplab.cli.main import main; main(['show', sys.argv[1]]);"
        "tasks = os.listdir('/proc/self/task');"
        "names = [open(f'/proc/self/task/{task}/comm').read() for task in tasks];"
        "print(sum('jemalloc' not in name for name in names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", count, str(folder)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "1"


def test_where_no_figure_can_be_written_the_table_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = folder / "throughput.png"
    figure.unlink()
    figure.mkdir()  # which not even root can write to as a file
    assert main(["show", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "Flows" in text
    assert "Figure  not drawn again" in text


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_a_truncated_table_is_one_line(
    size: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = folder / "flows.parquet"
    table.write_bytes(table.read_bytes()[:size])
    assert main(["show", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "flows.parquet: cannot be read, the run is damaged" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "not JSON"),
        (b"[" * 50_000, "not JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"schema": 1}', "damaged: it has no scenario, testbed"),
        (b'{"schema": 1, "scenario": 3}', "damaged"),
    ],
)
def test_damaged_metadata_is_one_line(
    content: bytes, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "run.json").write_bytes(content)
    assert main(["show", str(folder)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_table_without_its_columns_is_damaged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "links.parquet").write_bytes((folder / "flows.parquet").read_bytes())
    assert main(["show", str(folder)]) == 2
    assert "has no column link" in capsys.readouterr().err


def test_a_scenario_without_a_key_is_damaged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = json.loads((folder / "run.json").read_text())
    del metadata["scenario"]["flows"]
    (folder / "run.json").write_text(json.dumps(metadata))
    assert main(["show", str(folder)]) == 2
    assert "it has no scenario.flows" in capsys.readouterr().err


def test_quiet_says_nothing_and_verbose_which_build_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    assert main(["run", str(path), "--quiet", "--out", str(tmp_path / "quiet")]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert "Flows" in quiet.out
    assert main(["run", str(path), "-v", "--out", str(tmp_path / "verbose")]) == 0
    verbose = capsys.readouterr()
    assert verbose.err.startswith("mptcplab: 0")
    assert "[measuring]" in verbose.err
    assert main(["run", str(path), "--out", str(tmp_path / "usual")]) == 0
    usual = capsys.readouterr()
    assert usual.err.startswith("[building]")


def test_several_runs_are_a_line_each_and_one_figure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    other = tmp_path / "slow" / "run"
    words = ["run", str(path), "--set", "links.l.rate=0.5Mb/s", "--out", str(other)]
    assert main(words) == 0
    capsys.readouterr()
    stem = tmp_path / "both.runs"
    assert main(["show", str(folder), str(other), "-o", str(stem)]) == 0
    heading, first, second, *_ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["run", "scenario", "testbed", "seed", "goodput", "of", "f"]
    assert first.startswith(f"{tmp_path.name}/run ")
    assert second.startswith("slow/run ")
    svg = (tmp_path / "both.runs.svg").read_text()
    assert "slow/run" in svg
    assert not (tmp_path / "both.runs-latency.png").exists()
    assert main(["show", str(folder), str(other), "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert [each["run"] for each in both] == [str(folder), str(other)]


def test_a_name_for_the_figure_of_one_run_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(folder), "-o", "figure"]) == 2
    assert "is for several runs" in capsys.readouterr().err


def test_figures_of_times_have_numbers_for_ticks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    asking = 'flows.ask = { from = "a", to = "b", application = "request-response", count = 3 }'
    path.write_text(f"{SCENARIO}{asking}\n")
    runs = [tmp_path / "one", tmp_path / "two"]
    for place in runs:
        assert main(["run", str(path), "--duration", "2s", "--out", str(place)]) == 0
    assert main(["show", *map(str, runs), "-o", str(tmp_path / "times")]) == 0
    assert "times-latency.png" in capsys.readouterr().out
    for svg in (runs[0] / "latency.svg", tmp_path / "times-latency.svg"):
        text = svg.read_text()
        assert "mathdefault" not in text

"""``mptcplab sweep`` and ``mptcplab.sweep`` as users call them, on small links."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import mptcplab
from mptcplab import testbeds
from mptcplab.cli.main import main
from mptcplab.sweeps.engine import ThisProcess

SCENARIO = """
title = "two links"
duration = "1s"
hosts = ["alice", "bob"]
links.one = { between = ["alice", "bob"], rate = "10Mb/s", rtt = "10ms" }
links.two = { between = ["alice", "bob"], rate = "5Mb/s", rtt = "30ms" }
flows.main = { from = "alice", to = "bob" }
"""
OVER = ["--over", "flows.*.buffer=32KB,128KB", "--over", "tunables.scheduler=default,round-robin"]


@pytest.fixture(name="scenario")
def scenario_file(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    return path


def swept(scenario: Path, out: Path, *words: str) -> int:
    return main(["sweep", str(scenario), "--jobs", "1", "--out", str(out), *words])


def test_a_grid_of_runs_becomes_two_tables_and_figures(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert swept(scenario, out, *OVER, "--repetitions", "2", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [point["runs"] for point in told["points"]] == [2, 2, 2, 2]
    small, large = told["points"][0], told["points"][2]
    goodput = [point["metrics"][0]["value"]["mean"] for point in (small, large)]
    assert goodput[0] < 0.95 * goodput[1]
    runs = pq.read_table(out / "runs.parquet")
    assert runs["flows.*.buffer"].type == "double"
    assert set(runs["flows.*.buffer"].to_pylist()) == {32_000, 128_000}
    assert set(runs["tunables.scheduler"].to_pylist()) == {"default", "round-robin"}
    assert set(runs["seed"].to_pylist()) == {1, 2}
    assert runs["version"][0].as_py() == mptcplab.__version__
    summary = pq.read_table(out / "summary.parquet").to_pylist()
    main_rows = [row for row in summary if row["metric"] == "goodput of main"]
    assert [row["mean"] for row in main_rows][::2] == goodput
    assert (out / "figure-goodput-of-main.svg").exists()
    assert not (out / "runs").exists()


def test_the_same_command_goes_on_and_another_is_refused(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert swept(scenario, out, *OVER[:2], "--repetitions", "1") == 0
    first = (out / "journal.jsonl").read_text()
    assert swept(scenario, out, *OVER[:2], "--repetitions", "2") == 0
    whole = (out / "journal.jsonl").read_text()
    assert whole.startswith(first)
    assert len(whole.splitlines()) == 4
    # what a kill left of a line is made again
    (out / "journal.jsonl").write_text(whole[:-30])
    assert swept(scenario, out, *OVER[:2], "--repetitions", "2") == 0
    assert len((out / "journal.jsonl").read_text().splitlines()) == 4
    capsys.readouterr()
    assert swept(scenario, out, *OVER[:2], "--set", "flows.main.congestion=reno") == 2
    assert "another scenario" in capsys.readouterr().err
    assert swept(scenario, out, *OVER) == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert swept(scenario, tmp_path / "full", *OVER) == 2
    assert "holds something else" in capsys.readouterr().err


def test_no_more_processes_start_than_runs_are_left(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def workers(_: int | None, runs: int) -> ThisProcess:
        asked.append(runs)
        return ThisProcess()

    monkeypatch.setattr("mptcplab.sweeps.engine.local_workers", workers)
    assert swept(scenario, tmp_path / "out", *OVER[:2], "--repetitions", "2") == 0
    assert swept(scenario, tmp_path / "out", *OVER[:2], "--repetitions", "3") == 0
    assert asked == [4, 2]


def test_times_of_requests_are_distributions_of_their_points(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scenario.open("a") as file:
        file.write('flows.ask = { from = "alice", to = "bob", application = "request-response" }\n')
    out = tmp_path / "out"
    over = ["--over", "links.one.rtt=10ms,80ms", "--repetitions", "2", "--series"]
    assert swept(scenario, out, *over, "--json") == 0
    told = json.loads(capsys.readouterr().out)["points"]
    assert (out / "figure-times-of-ask.svg").exists()
    table = pq.read_table(out / "distributions.parquet").to_pylist()
    assert len(table) == 2 * 101
    assert {row["links.one.rtt"] for row in table} == {0.01, 0.08}
    fast, slow = ([row["mean_s"] for row in table if row["point"] == point] for point in (0, 1))
    for point, values in zip(told, (fast, slow), strict=True):
        (of_ask,) = point["distributions"]
        assert (of_ask["flow"], of_ask["runs"], of_ask["mean_s"]) == ("ask", 2, values)
        assert all(margin >= 0 for margin in of_ask["margin_s"])
    assert fast == sorted(fast)
    assert fast[50] < slow[50]
    assert set(pq.read_table(out / "series-requests.parquet")["flow"].to_pylist()) == {"ask"}
    assert not (out / "series-messages.parquet").exists()
    assert main(["page", str(out), "-o", str(tmp_path / "page.html")]) == 0
    assert "how the times of ask are distributed" in (tmp_path / "page.html").read_text()
    capsys.readouterr()


def test_a_failed_run_is_a_row_with_its_reason(
    scenario: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = testbeds.run_on

    def sometimes(name: str, scenario: Any, folder: Path, observer: Any) -> Path:
        if scenario.seed == 2:
            raise RuntimeError("the simulator broke")
        return make(name, scenario, folder, observer)

    monkeypatch.setattr("mptcplab.sweeps.tasks.run_on", sometimes)
    out = tmp_path / "out"
    assert swept(scenario, out, *OVER[:2], "--repetitions", "2") == 1
    assert "NOT VALID  2 of 4 runs: RuntimeError: the simulator broke" in capsys.readouterr().out
    runs = pq.read_table(out / "runs.parquet").to_pylist()
    assert [row["reason"] for row in runs if row["metric"] is None] == [
        "RuntimeError: the simulator broke"
    ] * 2
    assert len({(row["point"], row["seed"]) for row in runs}) == 4


def test_a_file_has_its_own_sweep_and_points_lie_on_its_axis(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scenario.open("a") as file:
        file.write(
            '[sweep]\nrepetitions = 1\nmetrics = ["rate of two"]\n'
            'zip = { "links.one.rate" = ["4Mb/s", "8Mb/s"], "links.one.rtt" = ["5ms", "50ms"] }\n'
        )
    assert swept(scenario, tmp_path / "out", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == 2
    assert told["points"][1]["set"] == ["links.one.rate=8Mb/s", "links.one.rtt=50ms"]
    assert not (tmp_path / "out").exists()
    assert main(["check", str(scenario)]) == 0
    assert "links.one.rtt: 5ms, 50ms (together)" in capsys.readouterr().out


def test_what_is_set_counts_more_than_what_a_point_sets_and_less_than_what_is_varied(
    scenario: Path, tmp_path: Path
) -> None:
    words = ["--repetitions", "1", "--keep-runs", "--set"]
    varied = ["--over", "links.one.rate=1Mb/s,2Mb/s", *words, "links.*.rate=9Mb/s"]
    assert swept(scenario, tmp_path / "varied", *varied) == 0
    one, two = (mptcplab.Run(tmp_path / "varied" / "runs" / point / "1") for point in "01")
    rates = [
        [link["forward"]["rate_bps"] for link in run.scenario["topology"]["links"]]
        for run in (one, two)
    ]
    assert rates == [[1_000_000, 9_000_000], [2_000_000, 9_000_000]]
    with scenario.open("a") as file:
        file.write('[[sweep.points]]\nlabel = "small"\nset = ["flows.main.buffer=32kB"]\n')
    assert swept(scenario, tmp_path / "points", *words, "flows.main.receive_buffer=64kB") == 0
    (flow,) = mptcplab.Run(tmp_path / "points" / "runs" / "0" / "1").scenario["flows"]
    assert (flow["send_buffer_bytes"], flow["receive_buffer_bytes"]) == (32_000, 64_000)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('over = { "links.none.rate" = ["1Mb/s"] }', "links.none"),
        ('over = { "links.one.rate" = ["much"] }', "much"),
        ('over = { "links.one.rate" = [] }', "not a list of values"),
        ('over = { "links.one.rate" = ["1Mb/s", "1Mb/s"] }', "twice"),
        ('zip = { "links.one.rate" = ["1Mb/s"], "links.two.rate" = ["1Mb/s", "2Mb/s"] }', "length"),
        ('axis = "nothing"', "varies nothing"),
    ],
)
def test_a_broken_sweep_is_one_error(
    scenario: Path, added: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with scenario.open("a") as file:
        file.write(f"[sweep]\n{added}\n")
    assert main(["check", str(scenario)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "sweep" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to sweep over"),
        (["--over", "links.one.rate=1..9Mb/s"], "--draws N with it"),
        (["--over", "links.one.rate=1Mb/s", "--draws", "3"], "nothing to draw"),
        (["--zip", "links.one.rate=1Mb/s", "--zip", "links.two.rate=1Mb/s,2Mb/s"], "length"),
        (["--over", "links.one.rate=1Mb/s", "--over", "links.one.rate=2Mb/s"], "given twice"),
        (["--over", "links.one.rate=1Mb/s,2Mb/s", "--set", "links.one.rate=3Mb/s"], "varies"),
        (["--over", "links.one.rate=1Mb/s,much"], "much"),
        (["--over", "links.one.rate=1Mb/s", "--precision", "2"], "--precision"),
        (["--over", "links.one.rate=1Mb/s", "--jobs", "0"], "--jobs"),
        (["--over", "links.one.rate=1Mb/s", "--on", "linux", "--jobs", "2"], "same kernels"),
    ],
)
def test_what_cannot_be_swept_is_one_error(
    scenario: Path,
    tmp_path: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["sweep", str(scenario), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_goes_on_and_makes_nothing_twice(
    scenario: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    words = ["sweep", str(scenario), *OVER, "--repetitions", "6", "--jobs", "2", "--out", str(out)]
    command = [sys.executable, "-m", "mptcplab", *words]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    journal = out / "journal.jsonl"
    until_s = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count("\n") >= 2):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    done = journal.read_text()
    assert 2 <= len(done.splitlines()) < 24
    if number == signal.SIGTERM:
        assert running.returncode == 143
        assert b"the same command goes on" in said
        assert pq.read_table(out / "runs.parquet").num_rows
    again = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert again.returncode == 0
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len(lines) == 24
    assert len({(line["point"], line["seed"]) for line in lines}) == 24
    kept = done[: done.rindex("\n")].splitlines()
    assert journal.read_text().splitlines()[: len(kept)] == kept
    assert not [path for path in out.iterdir() if path.suffix == ".partial"]


def test_precision_makes_more_runs_where_they_are_needed(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--over", "links.two.loss=0,2%", "--precision", "3%", "--metric", "goodput of main"]
    assert swept(scenario, out, *words) == 0
    rows = pq.read_table(out / "summary.parquet").to_pylist()
    calm, lossy = (row for row in rows if row["metric"] == "goodput of main")
    assert calm["runs"] < lossy["runs"]
    assert lossy["margin"] <= 0.03 * lossy["mean"] or lossy["runs"] == 100


def test_runs_and_series_are_kept_on_request(scenario: Path, tmp_path: Path) -> None:
    kept, series = tmp_path / "kept", tmp_path / "series"
    assert swept(scenario, kept, *OVER[:2], "--repetitions", "1", "--keep-runs") == 0
    assert mptcplab.Run(kept / "runs" / "1" / "1").valid
    assert swept(scenario, series, *OVER[:2], "--repetitions", "1", "--series") == 0
    links = pq.read_table(series / "series-links.parquet")
    assert set(links["point"].to_pylist()) == {0, 1}
    assert links.num_rows == sum(
        pq.read_table(kept / "runs" / str(point) / "1" / "links.parquet").num_rows
        for point in (0, 1)
    )


def test_a_page_shows_every_point(scenario: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "page.html"
    assert swept(scenario, out, *OVER, "--repetitions", "1") == 0
    assert main(["page", str(out), "-o", str(file)]) == 0
    html = file.read_text()
    assert html.count("data:image/svg+xml;base64,") == len(
        set(pq.read_table(out / "summary.parquet")["metric"].to_pylist())
    )
    block = html.partition('id="part-0-data">')[2].partition("</script>")[0]
    listing = json.loads(block)["listing"]
    assert [row[0] for row in listing["rows"]][::2] == [["32KB", 32_000], ["128KB", 128_000]]
    assert "1 of 1" in [cell[0] for cell in listing["rows"][0]]
    settings = json.loads((out / "sweep.json").read_text())
    settings["points"][0]["values"] = {"flows.*.buffer": "7MB"}
    (out / "sweep.json").write_text(json.dumps(settings))
    assert main(["page", str(out), "-o", str(file)]) == 2


def test_python_has_the_same(scenario: Path, tmp_path: Path) -> None:
    made = mptcplab.sweep(
        scenario, {"flows.*.buffer": ["32KB", "128KB"]}, repetitions=2, jobs=1, out=tmp_path / "out"
    )
    assert made.valid
    assert made.metrics[0] == "goodput of main"
    assert made.summary.num_rows == 2 * len(made.metrics)
    assert "<svg" in made._repr_html_()
    compared = mptcplab.compare(
        scenario, {"small": {"flows.*.buffer": "32KB"}}, repetitions=3, jobs=1
    )
    outcomes = {
        row["point"]: row["outcome"]
        for row in compared.summary.to_pylist()
        if row["metric"] == "goodput of main"
    }
    assert outcomes == {0: "not judged", 1: "worse"}
    run = mptcplab.run(scenario, set={"flows.main.buffer": "64KB"}, seed=3)
    assert run.valid
    assert run.scenario["seed"] == 3
    assert run.summary()["flows"][0]["goodput_bps"] > 5e6
    assert "<svg" in run._repr_html_()
    assert "two links" in str(run)


def test_a_cluster_that_is_not_there_is_one_error(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", str(scenario), *OVER, "--out", str(tmp_path / "out"), "--cluster"]
    assert main([*words, "local:many"]) == 3
    assert "expected local:N" in capsys.readouterr().err
    assert main([*words, ""]) == 3  # as of a variable that is not set
    assert "names no scheduler" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="names no scheduler"):
        mptcplab.sweep(scenario, {"tunables.scheduler": ["default"]}, cluster="")
    with pytest.raises(RuntimeError, match="names no scheduler"):
        mptcplab.compare(scenario, {"other": {"tunables.scheduler": "default"}}, cluster="")


def test_importing_costs_next_to_nothing() -> None:
    code = (
        "import time; began = time.perf_counter(); import mptcplab; "
        "took = time.perf_counter() - began; import sys; "
        "print(took, any(name.startswith(('pyarrow', 'numpy')) for name in sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, heavy = told.stdout.split()
    assert heavy == "False"
    assert float(took) < 0.03

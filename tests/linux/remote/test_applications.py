"""Every application on machines over SSH: what each does there, and nothing of it left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.linux.remote.conftest import APPLICATIONS
from tests.linux.remote.machines import Machines

from mptcplab.results.run import Run

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("sshd"),
    pytest.mark.program("iperf3"),
    pytest.mark.slow,
]


def test_all_run_there_and_leave_nothing(untouched: Machines, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--plugins", *untouched.options)
    done = untouched.run("run", str(APPLICATIONS), "--on", "hosts", *options, "--out", str(out))
    assert done.returncode == 0, done.stderr + done.stdout
    run = Run(out)
    assert run.metadata["invalid_reasons"] == []
    ends = {(each["flow"], each["connection"]): each for each in run.metadata["flows"]}
    assert {(flow, number): end["errors"] for (flow, number), end in ends.items()} == {
        key: [] for key in ends
    }
    for flow in ("api", "page", "film", "telemetry", "file"):
        assert all(end["intact"] for (of, _), end in ends.items() if of == flow)
    assert ends["iperf", 0]["bytes"] > 1_000_000
    assert ends["file", 0]["bytes"] + ends["file", 1]["bytes"] == 3_000_000
    requests = run.table("requests").to_pylist()
    for flow in ("api", "page", "film"):
        answered = [row for row in requests if row["flow"] == flow and row["end_ns"]]
        assert answered
        assert all(
            0 <= row["start_ns"] < row["first_byte_ns"] <= row["end_ns"] < 4_000_000_000
            for row in answered
        )
    messages = run.table("messages").to_pylist()
    for flow in ("call", "telemetry"):
        arrived = [row for row in messages if row["flow"] == flow and row["end_ns"]]
        assert len(arrived) > 80
        assert all(-1e6 < row["end_ns"] - row["start_ns"] < 500e6 for row in arrived)
    printed = (out / "own.txt").read_text()
    assert printed.startswith("to 10.1.0.2 port 50")
    assert printed.endswith("\ndone\n")
    assert (out / "own-server.txt").read_text() == "serving\n"


def test_programs_and_who_runs_them_are_shown_before(untouched: Machines) -> None:
    options = ("--plugins", *untouched.options)
    done = untouched.run("hosts", str(APPLICATIONS), "check", *options, "--json")
    assert done.returncode == 0, done.stderr
    client = json.loads(done.stdout)["hosts"][0]
    assert "iperf3, the client of iperf (as root)" in client["programs"]
    assert any(each.startswith("sh -c 'echo to {server}") for each in client["programs"])

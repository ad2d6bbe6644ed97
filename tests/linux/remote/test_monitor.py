"""MPTCP connections watched on a host, over SSH, while a run lasts there."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from tests.linux.remote.conftest import TWO_LINKS
from tests.linux.remote.machines import Machines

from mptcplab.results.run import Run

pytestmark = [pytest.mark.kernel, pytest.mark.program("sshd"), pytest.mark.slow]


def test_a_connection_is_watched_beside_its_controller(
    two_machines: Machines, tmp_path: Path
) -> None:
    run = two_machines.start(
        *("run", str(TWO_LINKS), "--on", "hosts", *two_machines.options, "--duration", "60s")
    )
    while ":5001" not in two_machines.on("client", "ss", "-tnH", "state", "established"):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    address = two_machines.addresses["client"]
    out = tmp_path / "watched"
    watched = two_machines.run(
        *("monitor", "--ssh", f"root@{address}", "--interval", "300ms", "--count", "6"),
        *("--out", str(out)),
    )
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=120)
    assert watched.returncode == 0, watched.stderr
    assert "10.1.0.1" in watched.stdout
    assert "10.2.0.1" in watched.stdout
    assert "waits for" in watched.stdout
    folder = Run(out)
    assert folder.metadata["testbed"] == "monitor"
    goodput = [row["goodput_bps"] for row in folder.rows("flows")]
    assert 70e6 < sum(goodput) / len(goodput) < 110e6
    assert {row["subflow"] for row in folder.rows("subflows")} == {0, 1}
    shown = two_machines.run("show", str(out))
    assert shown.returncode == 0, shown.stderr


def test_no_connection_is_said(two_machines: Machines) -> None:
    address = two_machines.addresses["client"]
    watched = two_machines.run(
        "monitor", "--ssh", f"root@{address}", "--interval", "10ms", "--count", "2"
    )
    assert watched.stdout.split("\n\n")[0] == "no MPTCP connection"

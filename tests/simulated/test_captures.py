"""A simulated run's captures, judged by tshark."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mptcplab.results.observer import Silent
from mptcplab.scenario import load
from mptcplab.simulated.testbed import run

# Queues that hold a whole window: no loss, so nothing to remark upon but MPTCP's own signals.
SCENARIO = """
title = "captured"
question = "?"
duration = "2s"
hosts = ["alice", "bob"]
captures = ["alice:eth0", "alice:eth1", "bob:eth0", "bob:eth1"]
snaplen = "65535B"

[links.one]
between = ["alice", "bob"]
rate = "4Mb/s"
rtt = "20ms"
queue = "4000 packets"

[links.two]
between = ["alice", "bob"]
rate = "4Mb/s"
rtt = "30ms"
queue = "4000 packets"

[flows.main]
from = "alice"
to = "bob"
size = "300kB"
buffer = "100kB"
"""

# An ACK that carries ADD_ADDR or a DATA_FIN looks to tshark like a duplicate, and one that opens
# the window like an update: both are as they should be.
REMARKS = (
    "tcp.analysis.flags && !tcp.analysis.window_update && "
    "!(tcp.analysis.duplicate_ack && tcp.len == 0 && tcp.option_kind == 30)"
)
WRONG = "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0"


def tshark(capture: Path, wanted: str) -> list[str]:
    options = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    done = subprocess.run(
        ["tshark", "-r", str(capture), *options, "-Y", wanted],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.program("tshark")
def test_tshark_finds_nothing_to_remark_upon(tmp_path: Path) -> None:
    file = tmp_path / "captured.toml"
    file.write_text(SCENARIO)
    folder = run(load(str(file)), tmp_path / "run", Silent())
    for host in ("alice", "bob"):
        capture = folder / f"{host}.pcapng"
        assert len(tshark(capture, "tcp.len > 0 && tcp.option_kind == 30")) > 200
        assert tshark(capture, WRONG) == []
        assert tshark(capture, REMARKS) == []

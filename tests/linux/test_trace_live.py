"""Kernel MPTCP captured and explained, live: what the server counted is what the capture shows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mptcplab import trace
from mptcplab.linux.testbed import run
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario.load import load
from mptcplab.trace.ends import are_two_ends
from mptcplab.trace.events import IDLE, LOST, NEW_ADDRESS, RESUMED, USED_AGAIN
from mptcplab.trace.runs import run_captures, run_events

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("ip", "tc", "ethtool", "tcpdump"),
]

TWO_LINKS = """
duration = "30s"
interval = "100ms"
hosts = ["alice", "bob"]
captures = ["alice:eth0", "alice:eth1", "bob:eth0", "bob:eth1"]

[links.one]
between = ["alice", "bob"]
rate = "40Mb/s"
queue = "100KB"

[links.two]
between = ["alice", "bob"]
rate = "20Mb/s"
queue = "100KB"

[flows.main]
from = "alice"
to = "bob"
size = "5MB"
buffer = "1MiB"
"""

_GENERATOR = Path(__file__).parents[1] / "captures" / "generate.py"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trace_capture_generator", _GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_handover_on_this_kernel(tmp_path: Path) -> None:
    path = tmp_path / "live.pcap"
    received = _generator().generate("handover", path)
    capture = trace.open(path)
    (connection,) = capture.connections
    assert connection.version == 1
    assert connection.complete_handshake
    assert connection.subflows[1].hmac_ok is True
    assert connection.side_bytes(0) == received
    kinds = [(event.kind, event.subflow) for event in connection.events]
    assert (NEW_ADDRESS, 1) in kinds
    # Whether data were stuck in it when its link failed is the kernel's scheduler to say.
    assert {(LOST, 0), (IDLE, 0)} & set(kinds)
    assert {(RESUMED, 0), (USED_AGAIN, 0)} & set(kinds)


@pytest.mark.program("tcpdump")
def test_the_captures_of_a_run_hold_what_its_flow_delivered(tmp_path: Path) -> None:
    """Every byte that the application counted, on the subflows that the tables name."""
    file = tmp_path / "captured.toml"
    file.write_text(TWO_LINKS)
    folder = run(load(str(file)), tmp_path / "run", Silent())
    results = Run(folder)
    hosts = run_captures(folder)
    assert {host: len(files) for host, files in hosts.items()} == {"alice": 2, "bob": 2}
    assert are_two_ends(hosts["alice"], hosts["bob"])
    for host, files in hosts.items():
        (connection,) = trace.open(files).connections
        assert connection.side_bytes(0) == 5_000_000
        assert connection.side_bytes(0) == results.metadata["flows"][0]["bytes"]
        rows = [row for row in results.rows("subflows") if row["host"] == host]
        assert len(connection.subflows) == 2
        for subflow in connection.subflows:
            # The last sample is from shortly before the end.
            mine = [row for row in rows if {row["local"], row["remote"]} == set(subflow.ends)]
            half = subflow.half(0)
            if host == "alice":
                assert 0 < max(row["bytes_sent"] for row in mine) <= half.payload_bytes
            else:
                assert 0 < max(row["bytes_received"] for row in mine) <= half.bytes
    # The wall clock of the run's record and of its captures is the same one.
    starts = [event for event in run_events(folder, trace.open(hosts["alice"]))
              if event.text.startswith("established")]  # fmt: skip
    assert abs(starts[0].time_ns - connection.start_ns) < 500_000_000

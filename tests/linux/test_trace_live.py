"""Kernel MPTCP captured and explained, live: what the server counted is what the capture shows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.linux.two_links import TWO_LINKS, finished, outage

from mptcplab import trace
from mptcplab.results.run import Run
from mptcplab.trace.findings.events import IDLE, LOST, NEW_ADDRESS, RESUMED, USED_AGAIN
from mptcplab.trace.testbed_run import run_captures, run_events
from mptcplab.trace.two_captures import are_two_ends

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("ip", "tc", "ethtool", "tcpdump"),
]

CAPTURED = 'captures=["alice:eth0", "alice:eth1", "bob:eth0", "bob:eth1"]'
IN_TIME = ("duration=30s", "interval=100ms", "flows.main.size=5MB", "flows.main.buffer=1MiB")

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


def check_bytes(done: Run, host: str, subflow: trace.Subflow) -> None:
    """Compare a subflow's counts in the tables with what one end's captures show."""
    rows = [
        row
        for row in done.rows("subflows")
        if row["host"] == host and {row["local"], row["remote"]} == set(subflow.ends)
    ]
    last = rows[-1]
    sent, received = (subflow.halves[subflow.ends.index(last[end])] for end in ("local", "remote"))
    counts = [last[name] for name in ("bytes_sent", "bytes_acked", "bytes_received")]
    shown = [sent.payload_bytes, sent.bytes, received.bytes]
    if last["state"] == "ESTABLISHED" or is_ours(done, host):
        assert counts == shown
        assert last["bytes_retransmitted"] == sent.payload_bytes - sent.bytes
    else:  # closed while the run went on: the kernel shows it no more
        assert all(count <= whole for count, whole in zip(counts, shown, strict=True))


def is_ours(done: Run, host: str) -> bool:
    (stack,) = (each["stack"] for each in done.scenario["topology"]["hosts"]
                if each["name"] == host)  # fmt: skip
    return bool(stack == "ours")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        (*IN_TIME, "tunables.checksum=true", "snaplen=65535B"),
        ("duration=1s", "interval=300ms", "flows.main.client=bob"),
        (*IN_TIME, "hosts.alice.stack=ours"),
        (*IN_TIME, "hosts.bob.stack=ours"),
    ],
    ids=["size", "download", "our sender", "our receiver"],
)
def test_the_captures_of_a_run_hold_what_its_tables_say(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    """Every byte that the application counted, on the subflows that the tables name."""
    done = finished(tmp_path, TWO_LINKS, CAPTURED, *overrides)
    hosts = run_captures(done.folder)
    assert {host: len(files) for host, files in hosts.items()} == {"alice": 2, "bob": 2}
    assert are_two_ends(hosts["alice"], hosts["bob"])
    (flow,) = done.metadata["flows"]
    assert flow["intact"] is True
    total = flow["bytes"] + flow["drained_bytes"]
    for host, files in hosts.items():
        (connection,) = trace.open(files).connections
        assert len(connection.subflows) == 2
        for subflow in connection.subflows:
            check_bytes(done, host, subflow)
            checks = subflow.checksums
            assert (checks is None) == ("tunables.checksum=true" not in overrides)
            if checks is not None:
                assert checks.verified > 50
                assert (checks.wrong, checks.unverifiable) == (0, 0)
        sender = 0 if connection.subflows[0].source == "10.0.1.1" else 1
        assert connection.side_bytes(sender) == total
        last = [row for row in done.rows("connections") if row["host"] == host][-1]
        sent, received = (total, 8) if host == "alice" else (8, total)
        assert [last["bytes_sent"], last["bytes_acked"], last["bytes_received"]] == [
            sent, sent, received
        ]  # fmt: skip
    # The wall clock of the run's record and of its captures is the same one.
    capture = trace.open(hosts["alice"])
    starts = [event for event in run_events(done.folder, capture)
              if event.text.startswith("established")]  # fmt: skip
    if starts:
        assert abs(starts[0].time_ns - capture.connections[0].start_ns) < 500_000_000


@pytest.mark.slow
def test_captures_of_an_outage_hold_what_the_tables_say(tmp_path: Path) -> None:
    text = TWO_LINKS + outage("two", "0.5s", "0.8s")
    done = finished(tmp_path, text, CAPTURED, *IN_TIME, "flows.main.size=8MB")
    for host, files in run_captures(done.folder).items():
        (connection,) = trace.open(files).connections
        assert connection.side_bytes(0) == 8_000_000
        assert len(connection.subflows) == 3
        for subflow in connection.subflows:
            check_bytes(done, host, subflow)

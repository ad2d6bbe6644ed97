"""Kernel MPTCP captured and explained, live: what the server counted is what the capture shows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mptcplab import trace
from mptcplab.trace.events import LOST, NEW_ADDRESS, RESUMED

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("ip", "tc", "ethtool", "tcpdump"),
]

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
    assert (LOST, 0) in kinds
    assert (RESUMED, 0) in kinds

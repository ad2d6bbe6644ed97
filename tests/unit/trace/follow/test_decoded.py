"""Decoding in a process of its own gives what decoding here gives."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import ModuleType

import pytest

from mptcplab import trace
from mptcplab.trace.decode.segments import Decoder
from mptcplab.trace.follow import decoded as module
from mptcplab.trace.follow import decoding_process
from mptcplab.trace.follow.placing import Placer
from mptcplab.trace.output.to_json import to_json
from mptcplab.trace.packets import packet_lines

CAPTURES = sorted((Path(__file__).parents[3] / "captures").glob("*.pcap.gz"))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let all captures be decoded in another process."""
    monkeypatch.setattr(module, "_LONG_BYTES", 0)
    monkeypatch.setattr(module, "_may_fork", lambda: True)
    return monkeypatch


def _said(path: Path) -> tuple[str, list[str]]:
    capture = trace.open(path)
    return json.dumps(to_json(capture)), list(packet_lines(capture, None))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_the_same_is_said(
    path: Path, elsewhere: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches, so that slots are used again and again."""
    monkeypatch.setattr("mptcplab.trace.files.capture.BATCH_PACKETS", 50)
    there = _said(path)
    elsewhere.setattr(module, "_may_fork", lambda: False)
    assert _said(path) == there


def test_what_does_not_fit_in_a_slot_is_sent_all_the_same(elsewhere: pytest.MonkeyPatch) -> None:
    elsewhere.setattr(decoding_process, "_SLOT_BYTES", 1 << 14)
    there = _said(CAPTURES[-1])
    elsewhere.setattr(module, "_may_fork", lambda: False)
    assert _said(CAPTURES[-1]) == there


@pytest.mark.usefixtures("elsewhere")
def test_ipv6_malformed_packets_and_damage(build: ModuleType, tmp_path: Path) -> None:
    segment = build.tcp(1, 2, 1, 0, build.SYN, build.capable())
    packets = [
        build.ethernet(build.ipv6("fd00::1", "fd00::2", segment), 0x86DD),
        build.ethernet(build.ipv6("fd00::3", "fd00::1", segment[:12]), 0x86DD),
    ]
    path = tmp_path / "x.pcap"
    path.write_bytes(build.pcap([packets[0], packets[1], packets[0]])[:-3])
    capture = trace.open(path)
    assert [subflow.ends for subflow in capture.subflows] == [("[fd00::1]:1", "[fd00::2]:2")]
    assert [damage.number for damage in capture.malformed] == [2, 3]


@pytest.mark.usefixtures("elsewhere")
def test_errors_come_over(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(gzip.decompress(CAPTURES[0].read_bytes())[:20])
    with pytest.raises(trace.CaptureError, match="the pcap file header is cut short"):
        trace.open(path)


@pytest.mark.usefixtures("elsewhere")
def test_arrays_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than the shared memory holds."""
    monkeypatch.setattr("mptcplab.trace.files.capture.BATCH_PACKETS", 100)
    path = next(path for path in CAPTURES if "handover" in path.name)
    kept = [
        (segments.seq, segments.seq.copy())
        for _, segments, _ in module.decoded([path], Decoder(), Placer(), [])
    ]
    assert len(kept) > 40
    assert all((given == copied).all() for given, copied in kept)

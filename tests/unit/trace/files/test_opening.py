"""Several files as one capture: rows of files, folders, patterns."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from mptcplab import trace
from mptcplab.trace.output.to_json import to_json

CAPTURES = Path(__file__).parents[3] / "captures"
DATA = gzip.decompress((CAPTURES / "handover.pcap.gz").read_bytes())
HEAD = DATA[:24]


def _records() -> list[bytes]:
    out = []
    at = 24
    while at < len(DATA):
        (size,) = struct.unpack_from("<I", DATA, at + 8)
        out.append(DATA[at : at + 16 + size])
        at += 16 + size
    return out


def _row(folder: Path, parts: int) -> list[Path]:
    """Cut the capture into files as a ring buffer does, whose names are not in order of time."""
    records = _records()
    step = -(-len(records) // parts)
    paths = []
    for k in range(parts):
        path = folder / f"ring_{(k + 2) % parts}.pcap"
        path.write_bytes(HEAD + b"".join(records[k * step : (k + 1) * step]))
        paths.append(path)
    return paths


def _said(capture: trace.Trace) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(json.dumps(to_json(capture)))
    del said["files"]
    return said


WHOLE = _said(trace.open(CAPTURES / "handover.pcap.gz"))


def test_a_row_of_files_is_one_capture(tmp_path: Path) -> None:
    paths = _row(tmp_path, 5)
    assert _said(trace.open(sorted(paths))) == WHOLE
    assert _said(trace.open(list(reversed(paths)))) == WHOLE


def test_a_folder_and_a_pattern_stand_for_their_captures(tmp_path: Path) -> None:
    _row(tmp_path, 4)
    (tmp_path / "ring_9.pcap").write_bytes(b"")  # the next file, just opened
    (tmp_path / "notes.txt").write_text("not a capture")
    assert _said(trace.open(tmp_path)) == WHOLE
    assert _said(trace.open(f"{tmp_path}/ring_[0-8].pcap")) == WHOLE


def test_files_that_overlap_are_interleaved(tmp_path: Path) -> None:
    parts: list[list[bytes]] = [[], [], []]
    turn, last = 0, b""
    for record in _records():  # of packets at the same moment, nobody can say which was first
        turn += record[:8] != last
        last = record[:8]
        parts[turn % 3].append(record)
    for k, records in enumerate(parts):
        (tmp_path / f"{k}.pcap.gz").write_bytes(gzip.compress(HEAD + b"".join(records)))
    assert _said(trace.open(tmp_path)) == WHOLE


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "the folder holds no capture"),
        ("x*.pcap", "no file fits this pattern"),
        ("x.pcap", "No such file"),
    ],
)
def test_nothing_to_read(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(trace.CaptureError, match=complaint):
        trace.open(tmp_path / name)

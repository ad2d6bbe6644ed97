"""Small files that ask for much: time and memory follow the file, or it is refused in a line."""

from __future__ import annotations

import gzip
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mptcplab import trace
from mptcplab.trace.files import capture as capture_file
from mptcplab.trace.files import expansion
from mptcplab.trace.files.capture import CaptureFile
from mptcplab.trace.follow import samples

MEMORY_BYTES = 2 << 30  # of address space; numpy and pyarrow reserve most of a gigabyte
CPU_S = 60
PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def _block(order: str, kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack(f"{order}II", kind, size) + body + struct.pack(f"{order}I", size)


def _section(order: str = "<") -> bytes:
    return _block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


INTERFACE = _block("<", 1, struct.pack("<HHI", 1, 0, 0))


def _packet(interface: int) -> bytes:
    return _block("<", 6, struct.pack("<IIIII", interface, 0, 0, 0, 0))


BOMBS = {
    "section headers": _section() * 50_000,
    "interfaces": _section() + INTERFACE * 50_000,
    "interfaces, and a packet of each": (
        _section() + INTERFACE * 30_000 + b"".join(map(_packet, range(30_000)))
    ),
    "interfaces and packets in turn": (
        _section() + b"".join(INTERFACE + _packet(number) for number in range(30_000))
    ),
    "sections of one packet": (_section() + INTERFACE + _packet(0)) * 20_000,
    "packets of no interface": _section() + INTERFACE + _packet(7) * 100_000,
    "empty packets": PCAP + bytes(16) * 500_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
def test_it_is_read_in_bounded_time_and_memory(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(content)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))

    done = subprocess.run(
        [sys.executable, "-m", "mptcplab", "inspect", str(path), "--json"],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_sections_that_change_the_byte_order_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes((_section("<") + _section(">")) * 2_000)
    start_s = time.process_time()
    with pytest.raises(trace.CaptureError, match="change the byte order 100 times"):
        trace.open(path)
    assert time.process_time() - start_s < 10


def test_what_expands_beyond_proportion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(PCAP + bytes(32 << 20)))
    monkeypatch.setattr(expansion, "FREE_BYTES", 8 << 20)
    with pytest.raises(trace.CaptureError, match=r"expand to .* \(gzip -d, zstd -d\)") as caught:
        for _ in CaptureFile(path).batches():
            pass
    assert str(path) in str(caught.value)
    monkeypatch.setattr(expansion, "FREE_BYTES", 64 << 20)  # what is small in itself may expand
    assert sum(len(batch) for batch in CaptureFile(path).batches()) == (32 << 20) // 16


def test_slots_do_not_grow_without_bound(
    build: ModuleType, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more halves than rows, no slot is long enough; there are batches enough to overflow."""
    monkeypatch.setattr(samples, "MAX_ROWS", 6)
    monkeypatch.setattr(capture_file, "BATCH_PACKETS", 5)
    packets = []
    for k in range(300):
        segment = build.tcp(1024 + k, 80, k, 0, build.SYN, build.capable())
        packets.append(build.ethernet(build.ipv4("10.0.0.1", "192.0.2.1", segment)))
    capture = read(build.pcap(packets))
    assert len(capture.connections) == 300
    assert 0 < capture.reading.samples.resolution_ns <= 1 << 52

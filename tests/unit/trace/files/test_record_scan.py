"""The fast walks find the same records as the plain one, whatever the bytes look like."""

from __future__ import annotations

import numpy as np
import pytest

from mptcplab.trace.columns.fields import PADDING
from mptcplab.trace.files.pcap import PcapFormat
from mptcplab.trace.files.pcapng import PcapngFormat
from mptcplab.trace.files.record_scan import RecordFormat, Walk, walk


def _file(sizes: np.ndarray, payload: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    out = []
    for k, size in enumerate(sizes.tolist()):
        body = payload * (size // len(payload) + 1) if payload else rng.bytes(size)
        header = np.array([1_700_000_000 + k // 1000, k % 1000, size, size + 7], dtype="<u4")
        out.append(header.tobytes() + body[:size])
    return b"".join(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "payload",
    [b"", bytes(64), np.array([1_700_000_000, 5, 48, 60], dtype="<u4").tobytes() + bytes(48)],
    ids=["random", "zeros", "records inside records"],
)
@pytest.mark.parametrize("spread", [40, 1500])
def test_both_walks_agree(payload: bytes, spread: int) -> None:
    head = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    form = PcapFormat(head)
    form.reference_s = 1_700_000_000
    sizes = np.random.default_rng(3).integers(60, 60 + spread, 20_000)
    data = np.frombuffer(_file(sizes, payload, 4) + bytes(PADDING), dtype=np.uint8)
    stop = data.size - PADDING - 10  # the last record is incomplete
    plain = walk(form, data, 0, stop, 0)
    fast = walk(form, data, 0, stop, int(sizes.mean()) + 16)
    assert plain.offsets.size == sizes.size - 1
    assert np.array_equal(plain.offsets, fast.offsets)
    assert (plain.end, plain.damaged) == (fast.end, fast.damaged)


def _compare(form: RecordFormat, blocks: bytes, mean_bytes: int) -> Walk:
    data = np.frombuffer(blocks + bytes(PADDING), dtype=np.uint8)
    plain = walk(form, data, 0, len(blocks), 0)
    fast = walk(form, data, 0, len(blocks), mean_bytes)
    assert np.array_equal(plain.offsets, fast.offsets)
    assert plain.heads.tobytes() == fast.heads.tobytes()
    assert (plain.end, plain.damaged) == (fast.end, fast.damaged)
    return fast


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("start_s", [0, 1_700_000_000])
@pytest.mark.parametrize("odd", ["empty", "absurd", "longer than stated", "a year later"])
def test_records_that_look_like_none(order: str, start_s: int, odd: str) -> None:
    head = bytes.fromhex("a1b2c3d400020004000000000000000000ffff0000000001")
    if order == "<":
        head = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    form = PcapFormat(head)
    form.reference_s = start_s
    rng = np.random.default_rng(5)
    out = []
    for k in range(8000):
        time_s, size, original = start_s + k // 1000, int(rng.integers(60, 140)), 1500
        if k % 1100 == 900 or k in (4000, 4001, 4002):
            size = 0 if odd == "empty" else size
            original = 3 if odd == "longer than stated" else original
            time_s += 31_536_000 if odd == "a year later" else 0
        header = np.array([time_s, k % 1000, size, original], dtype=order + "u4")
        if odd == "absurd" and k == 5000:
            header[2] = 1 << 31
        out.append(header.tobytes() + rng.bytes(size))
    found = _compare(form, b"".join(out), 116)
    assert found.offsets.size == (5000 if odd == "absurd" else 8000)
    assert found.damaged == (odd == "absurd")


@pytest.mark.slow
def test_blocks_of_other_types_between_packets() -> None:
    rng = np.random.default_rng(6)
    out = []
    for k in range(8000):
        kind, body = 6, bytes(20) + rng.bytes(4 * int(rng.integers(10, 30)))
        if k % 700 == 0:
            kind, body = 5, np.array([6, 36, 0, 0], dtype="<u4").tobytes()  # statistics
        size = np.array([len(body) + 12], dtype="<u4").tobytes()
        out.append(kind.to_bytes(4, "little") + size + body + size)
    form = PcapngFormat(bytes.fromhex("0a0d0d0a1c0000004d3c2b1a"))
    assert _compare(form, b"".join(out), 110).offsets.size == 8000

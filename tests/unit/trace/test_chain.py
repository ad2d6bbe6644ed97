"""The walk in step finds the same records as the plain one, whatever the bytes look like."""

from __future__ import annotations

import numpy as np
import pytest

from mptcplab.trace.chain import walk
from mptcplab.trace.gather import PADDING
from mptcplab.trace.pcap import PcapFormat


def _file(sizes: np.ndarray, payload: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    out = []
    for k, size in enumerate(sizes.tolist()):
        body = payload * (size // len(payload) + 1) if payload else rng.bytes(size)
        header = np.array([1_700_000_000 + k // 1000, k % 1000, size, size + 7], dtype="<u4")
        out.append(header.tobytes() + body[:size])
    return b"".join(out)


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

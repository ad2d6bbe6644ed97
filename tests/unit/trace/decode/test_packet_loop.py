"""What compiled builds do with usual packets and with records is what columns do, value for value.

Here the loops run interpreted, on few packets.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from random import Random

import numpy as np
import pytest

from mptcplab.trace.columns.fields import PADDING
from mptcplab.trace.decode import segments as module
from mptcplab.trace.decode.dss import DssColumns
from mptcplab.trace.decode.segments import Decoder, Segments
from mptcplab.trace.files import pcap
from mptcplab.trace.files.batch import Batch
from mptcplab.trace.files.opening import open_batches
from mptcplab.trace.files.pcap import PcapFormat
from mptcplab.trace.files.record_scan import walk

CAPTURES = sorted((Path(__file__).parents[3] / "captures").glob("*.pcap.gz"))


def _compare(one: Segments, other: Segments) -> None:
    for field in fields(Segments):
        values = getattr(one, field.name), getattr(other, field.name)
        if field.name == "options":
            assert repr(values[0]) == repr(values[1])
        elif field.name != "dss":
            assert values[0].dtype == values[1].dtype, field.name
            np.testing.assert_array_equal(*values, err_msg=field.name)
    for field in fields(DssColumns):
        values = getattr(one.dss, field.name), getattr(other.dss, field.name)
        assert values[0].dtype == values[1].dtype, field.name
        np.testing.assert_array_equal(*values, err_msg=f"DSS {field.name}")


def _decode_both(batch: Batch) -> int:
    """Check that both decode the same, and return how many segments that are."""
    by_loop, by_columns = Decoder(), Decoder()
    segments = by_loop.decode(batch)
    _compare(segments, by_columns.decode_by_columns(batch))
    assert by_loop.malformed == by_columns.malformed
    assert by_loop.cut_off == by_columns.cut_off
    assert by_loop.unknown_links == by_columns.unknown_links
    return len(segments)


@pytest.fixture(autouse=True)
def loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a compiled build does be done interpreted."""
    monkeypatch.setattr(module, "IS_COMPILED", True)
    monkeypatch.setattr(pcap, "IS_COMPILED", True)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_captures(path: Path) -> None:
    assert sum(_decode_both(batch) for batch in open_batches([path], [])) >= 20


@pytest.mark.parametrize("seed", range(12))
def test_headers_that_say_anything(seed: int) -> None:
    """Bytes of the headers are changed, and packets cut."""
    random = Random(seed)
    for batch in open_batches([CAPTURES[seed % len(CAPTURES)]], []):
        rows = np.sort(np.array(random.sample(range(len(batch)), min(len(batch), 400))))
        part = batch.take(rows)
        part.data = part.data.copy()
        for offset, captured in zip(part.offset.tolist(), part.captured.tolist(), strict=True):
            for _ in range(random.choice((0, 0, 1, 1, 2, 5))):
                place = random.choice((12, 14, 20, 23, 46, *range(54, 94)))
                if place < captured:
                    part.data[offset + place] = random.choice((0, 1, 2, 3, 4, 8, 10, 12, 30, 255))
        cut = np.array([random.choice((0, 0, 0, random.randrange(100))) for _ in rows])
        part.captured = np.maximum(part.captured - cut, 0)
        _decode_both(part)
        _decode_both(part.take(np.arange(0)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("start_s", [0, 1_700_000_000])
@pytest.mark.parametrize("odd", ["", "empty", "zeros", "absurd"])
def test_records(order: str, start_s: int, odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    magic = bytes.fromhex("a1b2c3d4" if order == ">" else "d4c3b2a1")
    rest = np.array([0, 0, 65535, 1], dtype=order + "u4").tobytes()
    form = PcapFormat(magic + np.array([2, 4], dtype=order + "u2").tobytes() + rest)
    form.reference_s = start_s
    random = Random(1)
    out = []
    for k in range(200):
        size = random.randrange(60, 200)
        header = np.array([start_s + k, k, size, 1500], dtype=order + "u4")
        if k == 150 and odd:
            header[2:] = {"empty": (0, 99), "zeros": (0, 0), "absurd": (1 << 31, 1500)}[odd]
            size = 0
        out.append(header.tobytes() + random.randbytes(size))
    whole = b"".join(out)
    data = np.frombuffer(whole + bytes(PADDING), dtype=np.uint8)
    for stop in (len(whole), len(whole) - 5, len(out[0]) + 20, len(out[0]) + 9, 7):
        monkeypatch.setattr(pcap, "IS_COMPILED", True)
        loop = walk(form, data, 0, stop, 0)
        monkeypatch.setattr(pcap, "IS_COMPILED", False)
        plain = walk(form, data, 0, stop, 0)
        np.testing.assert_array_equal(loop.offsets, plain.offsets)
        assert loop.heads.tobytes() == plain.heads.tobytes()
        assert (loop.end, loop.damaged) == (plain.end, plain.damaged)

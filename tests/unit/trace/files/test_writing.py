"""Written captures hold the packets that were chosen, byte for byte and in time."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import ModuleType

import pytest

from mptcplab import trace
from mptcplab.trace.files.capture import CaptureFile
from mptcplab.trace.files.writing import CaptureWriter
from mptcplab.trace.packet_filter import parse_filter
from mptcplab.trace.packets import packet_lines, write_packets

HANDOVER = Path(__file__).parents[3] / "captures" / "handover.pcap.gz"

Packet = tuple[int, int, int, bytes]


def _packets(path: Path) -> list[Packet]:
    """(time, original length, link type, bytes) of every packet."""
    return [
        (time, original, link, batch.data[at : at + size].tobytes())
        for batch in CaptureFile(path).batches()
        for time, original, link, at, size in zip(
            *(
                column.tolist()
                for column in (
                    batch.time_ns, batch.original, batch.link_type, batch.offset, batch.captured,
                )
            ),
            strict=True,
        )
    ]  # fmt: skip


def _written(source: Path, target: Path, test: str | None = None) -> str:
    writer = CaptureWriter(target, [source])
    write_packets(trace.open(source), parse_filter(test) if test else None, writer)
    return writer.description


@pytest.mark.parametrize("name", ["x.pcap", "x.pcapng"])
def test_without_a_filter_it_is_the_same_capture(tmp_path: Path, name: str) -> None:
    said = _written(HANDOVER, tmp_path / name)
    assert _packets(tmp_path / name) == _packets(HANDOVER)
    assert "4,417 packets" in said
    assert ("pcapng, nanoseconds" if "ng" in name else "pcap, microseconds") in said


def test_a_filter_chooses(tmp_path: Path) -> None:
    target = tmp_path / "x.pcap"
    _written(HANDOVER, target, "subtype == join or retransmission")
    lines = list(
        packet_lines(trace.open(HANDOVER), parse_filter("subtype == join or retransmission"))
    )
    numbers = [int(line.split()[0]) for line in lines]
    whole = _packets(HANDOVER)
    assert _packets(target) == [whole[number - 1] for number in numbers]


@pytest.mark.parametrize("name", ["x.pcap", "x.pcapng"])
def test_nanoseconds_are_kept(tmp_path: Path, build: ModuleType, name: str) -> None:
    packets = [build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", bytes(20), 17))] * 3
    source = tmp_path / "source.pcap"
    source.write_bytes(build.pcap(packets, nanoseconds=True, step_ns=1_000_001))
    assert "nanoseconds" in _written(source, tmp_path / name)
    assert _packets(tmp_path / name) == _packets(source)


def test_several_link_types_need_pcapng(tmp_path: Path, build: ModuleType) -> None:
    packet = build.ipv4("10.0.0.1", "10.0.0.2", build.tcp(1, 2, 3, 4, build.ACK))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pcap").write_bytes(build.pcap([packet], link_type=101))
    (tmp_path / "in" / "b.pcap").write_bytes(build.pcap([build.ethernet(packet)]))
    capture = trace.open(tmp_path / "in")
    with pytest.raises(trace.CaptureError, match="several link types"):
        write_packets(capture, None, CaptureWriter(tmp_path / "x.pcap", []))
    write_packets(capture, None, CaptureWriter(tmp_path / "x.pcapng", []))
    assert [link for _, _, link, _ in _packets(tmp_path / "x.pcapng")] == [101, 1]


def test_no_packets_are_a_capture_too(tmp_path: Path) -> None:
    target = tmp_path / "x.pcap"
    _written(HANDOVER, target, "len > 1000000")
    assert trace.open(target).packets == 0


def test_what_is_read_is_not_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "x.pcap"
    source.write_bytes(gzip.decompress(HANDOVER.read_bytes()))
    with pytest.raises(trace.CaptureError, match="is a file that is read"):
        CaptureWriter(tmp_path / "." / "x.pcap", [source])
    assert trace.open(source).packets == 4417


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(trace.CaptureError, match=r"-w .*missing"):
        CaptureWriter(tmp_path / "missing" / "x.pcap", [])

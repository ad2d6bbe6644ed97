"""Capture files: what is written reads back, and tshark decodes it to the same values."""

from __future__ import annotations

import io
import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.keys import IDSN_A, KEY_A, KEY_B

from mptcplab.wire.checksum import dss_checksum, ones_sum
from mptcplab.wire.error import WireError
from mptcplab.wire.ip import format_address, parse_address
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.packet import decode_packet, encode_packet
from mptcplab.wire.pcap import LINK_RAW_IP, PcapngWriter, PcapWriter
from mptcplab.wire.pcap_read import CapturedPacket, read_capture
from mptcplab.wire.segment import ACK, FIN, PSH, RST, SYN, Segment

V4 = (parse_address("10.1.0.1"), parse_address("10.1.0.2"))
V6 = (parse_address("fd00:1::1"), parse_address("fd00:1::2"))
START_NS = 1_700_000_000_123_456_789


def segment(
    flags: int, *options: MptcpOption, payload: bytes = b"", addresses: tuple[bytes, bytes] = V4
) -> Segment:
    src, dst = addresses
    return Segment(
        src,
        40_000,
        dst,
        5001,
        seq=1000,
        ack=2000 if flags & ACK else 0,
        flags=flags,
        window=512,
        payload_bytes=len(payload),
        payload=payload or None,
        ts_val=None if flags & RST else 7,
        ts_ecr=8 if flags & ACK else 0,
        mptcp=options,
    )


DATA = bytes(range(200))
DSN = IDSN_A + 1
CASES: list[Segment] = [
    segment(SYN, MpCapable(1)),
    segment(SYN, MpCapable(0, 0x81, KEY_A)),
    segment(SYN | ACK, MpCapable(1, 1, KEY_B)),
    segment(ACK, MpCapable(1, 1, KEY_A, KEY_B)),
    segment(ACK | PSH, MpCapable(1, 1, KEY_A, KEY_B, len(DATA)), payload=DATA),
    segment(ACK | PSH, MpCapable(1, 0x81, KEY_A, KEY_B, len(DATA), 0x1234), payload=DATA),
    segment(SYN, MpJoinSyn(True, 3, 0x6D90C0FD, 0x58817B12)),
    segment(SYN | ACK, MpJoinSynAck(False, 4, bytes(range(8)), 0x834BEDC4)),
    segment(ACK, MpJoinAck(bytes(range(20)))),
    segment(ACK, Dss(0x730C1714)),
    segment(ACK, Dss(0x730C1714, False)),
    segment(ACK | PSH, Dss(5, True, DSN, True, 1, len(DATA)), payload=DATA),
    segment(ACK | PSH, Dss(5, False, 77, False, 1, len(DATA)), payload=DATA),
    segment(
        ACK | PSH,
        Dss(5, True, DSN, True, 1, len(DATA), dss_checksum(DSN, 1, len(DATA), ones_sum(DATA))),
        payload=DATA,
        addresses=V6,
    ),
    segment(ACK, Dss(5, True, DSN, True, 0, 1, data_fin=True)),
    segment(ACK, AddAddr(2, V4[0], None, False, bytes(range(8)))),
    segment(ACK, AddAddr(2, V4[0], 7003, False, bytes(range(8)))),
    segment(ACK, AddAddr(2, V6[0], None, True)),
    segment(ACK, AddAddr(2, V6[0], 7003, False, bytes(range(8)))),
    segment(ACK, AddAddr(9, V4[1], None, version=0)),
    segment(ACK, RemoveAddr((1, 2, 7))),
    segment(ACK, Dss(5), MpPrio(True)),
    segment(ACK, MpPrio(False, 5)),
    segment(ACK, Dss(5), MpFail(DSN)),
    segment(RST | ACK, MpFastclose(KEY_B), MpTcpRst(1, 1)),
    segment(FIN | ACK, Dss(5), addresses=V6),
]


def write_all(stream: io.BytesIO) -> None:
    writer = PcapngWriter(stream, ["left", "right"])
    for index, case in enumerate(CASES):
        writer.write_segment(START_NS + index, case, index % 2)


def test_pcapng_reads_back_with_names_and_nanoseconds() -> None:
    stream = io.BytesIO()
    write_all(stream)
    packets = list(read_capture(stream.getvalue()))
    assert [packet.time_ns for packet in packets] == [START_NS + i for i in range(len(CASES))]
    assert [packet.interface for packet in packets[:2]] == ["left", "right"]
    for packet, case in zip(packets, CASES, strict=True):
        assert packet.data == encode_packet(case)
        assert decode_packet(packet.data, verify_checksum=True).mptcp == case.mptcp


def test_pcap_splits_trains_and_cuts_payloads() -> None:
    train = segment(ACK | PSH, Dss(5, True, DSN, True, 1, 3000), payload=bytes(3000))
    train.segment_size_bytes = 1400
    whole, split = io.BytesIO(), io.BytesIO()
    PcapWriter(whole, snap_bytes=100).write_segment(START_NS, train)
    PcapWriter(split, split_trains=True).write_segment(START_NS, train)
    (packet,) = read_capture(whole.getvalue())
    assert len(packet.data) == 100
    assert packet.original_bytes == train.header_bytes + 3000
    assert decode_packet(packet.data, truncated=True).payload_bytes == 3000
    pieces = [decode_packet(packet.data) for packet in read_capture(split.getvalue())]
    assert [piece.payload_bytes for piece in pieces] == [1400, 1400, 200]
    assert [piece.seq for piece in pieces] == [1000, 2400, 3800]
    assert [piece.flags for piece in pieces] == [ACK, ACK, ACK | PSH]


def test_a_payload_of_mere_length_is_written_as_headers() -> None:
    stream = io.BytesIO()
    mere_length = segment(ACK)
    mere_length.payload_bytes = 500
    PcapWriter(stream).write_segment(0, mere_length)
    (packet,) = read_capture(stream.getvalue())
    assert len(packet.data) == mere_length.header_bytes
    assert packet.original_bytes == mere_length.header_bytes + 500
    assert decode_packet(packet.data, truncated=True).payload_bytes == 500


@pytest.mark.parametrize(
    ("link_type", "prefix"),
    [
        (1, bytes(12) + b"\x08\x00"),
        (1, bytes(12) + b"\x81\x00\x00\x05\x08\x00"),
        (113, bytes(14) + b"\x08\x00"),
        (276, b"\x08\x00" + bytes(18)),
        (9, b"\xff\x03\x00\x21"),
        (9, b"\x00\x21"),
        (0, b"\x02\0\0\0"),
        (LINK_RAW_IP, b""),
    ],
)
def test_link_layers_are_skipped(link_type: int, prefix: bytes) -> None:
    ip = encode_packet(CASES[0])
    packet = CapturedPacket(0, link_type, prefix + ip, len(prefix + ip), "")
    found = packet.ip_packet()
    assert found is not None
    assert bytes(found) == ip


def test_other_link_layers_are_no_ip() -> None:
    assert CapturedPacket(0, 1, bytes(12) + b"\x08\x06" + bytes(28), 42, "").ip_packet() is None
    assert CapturedPacket(0, 1, b"short", 5, "").ip_packet() is None
    assert CapturedPacket(0, 105, bytes(100), 100, "").ip_packet() is None


def test_what_is_no_capture_is_refused() -> None:
    for contents in (b"", b"GIF89a" + bytes(40), b"\x0a\x0d\x0d\x0a\x03\0\0\0" + bytes(20)):
        with pytest.raises(WireError):
            list(read_capture(contents))


def test_big_endian_and_microsecond_files_are_read() -> None:
    ip = encode_packet(CASES[0])
    header = struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINK_RAW_IP)
    (packet,) = read_capture(header + struct.pack(">IIII", 5, 6, len(ip), len(ip)) + ip)
    assert packet.time_ns == 5_000_006_000
    assert packet.data == ip


def tshark(path: Path) -> list[dict[str, Any]]:
    """Return the layers of every packet as tshark decodes them."""
    command = ["tshark", "-r", str(path), "-T", "json", "--no-duplicate-keys"]
    preferences = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    result = subprocess.run([*command, *preferences], capture_output=True, check=True, timeout=60)
    packets = json.loads(result.stdout)
    return [packet["_source"]["layers"] for packet in packets]


def find(tree: object, name: str) -> list[str]:
    """Every value of a field, wherever it is in tshark's tree."""
    if isinstance(tree, list):
        return [value for item in tree for value in find(item, name)]
    if not isinstance(tree, dict):
        return []
    out: list[str] = []
    for key, value in tree.items():
        if key == name and not isinstance(value, dict):
            out += value if isinstance(value, list) else [value]
        out += find(value, name)
    return out


def expected_fields(option: MptcpOption) -> dict[str, list[int]]:
    """The fields of tshark that must equal those of an option."""
    if isinstance(option, MpCapable):
        keys = [key for key in (option.sender_key,) if key is not None]
        peers = [key for key in (option.receiver_key,) if key is not None]
        return {"version": [option.version], "sendkey": keys, "recvkey": peers}
    if isinstance(option, MpJoinSyn):
        return {
            "recvtok": [option.token],
            "sendrand": [option.nonce],
            "addrid": [option.address_id],
            "backup.flag": [int(option.backup)],
        }
    if isinstance(option, MpJoinSynAck):
        mac = int.from_bytes(option.hmac, "big")
        return {"sendtrunchmac": [mac], "sendrand": [option.nonce]}
    if isinstance(option, Dss):
        out = {"datafin.flag": [int(option.data_fin)]}
        out["rawdataack"] = [] if option.data_ack is None else [option.data_ack]
        if option.dsn is not None:
            out["rawdataseqno"] = [option.dsn]
            out["subflowseqno"] = [option.ssn]
            out["datalvllen"] = [option.data_length]
        return out
    if isinstance(option, AddAddr):
        return {"port": [option.port] if option.port else [], "addrid": [option.address_id]}
    if isinstance(option, MpPrio):
        return {"backup.flag": [int(option.backup)]}
    if isinstance(option, MpFastclose):
        return {"recvkey": [option.receiver_key]}
    if isinstance(option, MpTcpRst):
        return {"rst_reason": [option.reason], "flag_T.flag": [int(option.transient)]}
    if isinstance(option, RemoveAddr):
        return {"addrid": list(option.address_ids)}
    if isinstance(option, MpFail):
        return {"rawdataseqno": [option.dsn]}
    return {}


@pytest.mark.slow
@pytest.mark.program("tshark")
def test_tshark_decodes_the_same_values_and_nothing_malformed(tmp_path: Path) -> None:
    stream = io.BytesIO()
    write_all(stream)
    path = tmp_path / "options.pcapng"
    path.write_bytes(stream.getvalue())
    packets = tshark(path)
    assert len(packets) == len(CASES)
    for layers, case in zip(packets, CASES, strict=True):
        text = json.dumps(layers)
        assert "Malformed" not in text, str(case)
        assert "_ws.malformed" not in text, str(case)
        assert find(layers, "tcp.checksum.status") == ["1"], str(case)
        assert find(layers, "tcp.seq_raw") == [str(case.seq)]
        assert find(layers, "tcp.window_size_value") == [str(case.window)]
        assert find(layers, "tcp.len") == [str(case.payload_bytes)]
        subtypes = [int(value, 0) for value in find(layers, "tcp.options.mptcp.subtype")]
        assert subtypes == [option.subtype for option in case.mptcp], str(case)
        for option in case.mptcp:
            for name, expected in expected_fields(option).items():
                found = find(layers, f"tcp.options.mptcp.{name}")
                assert [int(value, 0) for value in found] == expected, f"{name}: {case}"
            if isinstance(option, AddAddr):
                family = "ipv4" if len(option.address) == 4 else "ipv6"
                found = find(layers, f"tcp.options.mptcp.{family}")
                assert found == [format_address(option.address)]
            if isinstance(option, MpJoinAck):
                (hmac,) = find(layers, "tcp.options.mptcp.sendhmac")
                assert hmac.replace(":", "") == option.hmac.hex()

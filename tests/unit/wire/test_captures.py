"""Real captures, made by others, decoded to what tshark says of them.

The captures are not part of the project: MPTCPLAB_CAPTURES names a folder of them, each with a CSV
of tshark's fields, one row per packet, in ``truth/``.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from mptcplab.wire.error import WireError
from mptcplab.wire.ip import format_address
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
    MpTcpRst,
)
from mptcplab.wire.packet import decode_packet
from mptcplab.wire.pcap_read import CapturedPacket, read_capture
from mptcplab.wire.segment import Segment

FOLDER = os.environ.get("MPTCPLAB_CAPTURES", "")
CAPTURES = sorted(Path(FOLDER).glob("*.pcap*")) if FOLDER else []

pytestmark = pytest.mark.skipif(not FOLDER, reason="MPTCPLAB_CAPTURES names no folder of captures")


def test_the_folder_holds_captures() -> None:
    assert CAPTURES


def column(row: dict[str, str], name: str) -> list[str]:
    """The values of a column: several options of one packet are joined by semicolons."""
    text = row[name]
    return text.split(";") if text else []


def numbers(row: dict[str, str], name: str) -> list[int]:
    return [int(value, 0) for value in column(row, f"tcp.options.mptcp.{name}")]


def decode(packet: CapturedPacket) -> Segment | None:
    ip = packet.ip_packet()
    if ip is None:
        return None
    try:
        return decode_packet(ip, truncated=True)
    except WireError:
        return None


COMPARED = (
    "subtype",
    "version",
    "sendkey",
    "recvkey",
    "recvtok",
    "sendrand",
    "sendtrunchmac",
    "rawdataack",
    "rawdataseqno",
    "subflowseqno",
    "datalvllen",
    "datafin.flag",
    "rst_reason",
    "echo",
)


def option_values(options: tuple[MptcpOption, ...]) -> dict[str, list[int]]:
    """The columns of the truth as we decode them."""
    out: dict[str, list[int]] = {name: [] for name in COMPARED}

    def put(name: str, value: int | bool | None) -> None:
        if value is not None:
            out[name].append(int(value))

    for option in options:
        put("subtype", option.subtype)
        if isinstance(option, MpCapable):
            put("version", option.version)
            put("sendkey", option.sender_key)
            put("recvkey", option.receiver_key)
            put("datalvllen", option.data_length)
        elif isinstance(option, MpJoinSyn):
            put("recvtok", option.token)
            put("sendrand", option.nonce)
        elif isinstance(option, MpJoinSynAck):
            put("sendrand", option.nonce)
            put("sendtrunchmac", int.from_bytes(option.hmac, "big"))
        elif isinstance(option, Dss):
            put("rawdataack", option.data_ack)
            put("datafin.flag", option.data_fin)
            if option.dsn is not None:
                put("rawdataseqno", option.dsn)
                put("subflowseqno", option.ssn)
                put("datalvllen", option.data_length)
        elif isinstance(option, MpFastclose):
            put("recvkey", option.receiver_key)
        elif isinstance(option, MpTcpRst):
            put("rst_reason", option.reason)
        elif isinstance(option, AddAddr) and option.version == 1:
            put("echo", option.echo)
    return out


def check_packet(row: dict[str, str], segment: Segment) -> None:
    family = "ip" if len(segment.src) == 4 else "ipv6"
    assert column(row, f"{family}.src")[-1] == format_address(segment.src)
    assert column(row, f"{family}.dst")[-1] == format_address(segment.dst)
    assert int(row["tcp.srcport"]) == segment.src_port
    assert int(row["tcp.dstport"]) == segment.dst_port
    assert int(row["tcp.flags"], 0) == segment.flags
    assert int(row["tcp.seq_raw"]) == segment.seq
    assert int(row["tcp.ack_raw"]) == segment.ack
    assert int(row["tcp.len"]) == segment.payload_bytes
    assert int(row["tcp.window_size_value"]) == segment.window
    if segment.wscale is not None and segment.wscale <= 14:
        assert int(row["tcp.options.wscale.multiplier"]) == 1 << segment.wscale
    for name, values in option_values(segment.mptcp).items():
        assert numbers(row, name) == values, f"{name}: {segment}"
    if any(isinstance(option, MpJoinAck) for option in segment.mptcp):
        hmacs = [option.hmac for option in segment.mptcp if isinstance(option, MpJoinAck)]
        sent = [text.replace(":", "") for text in column(row, "tcp.options.mptcp.sendhmac")]
        assert sent == [hmac.hex() for hmac in hmacs]


@pytest.mark.parametrize("path", CAPTURES, ids=[path.stem for path in CAPTURES])
def test_every_packet_decodes_to_the_ground_truth(path: Path) -> None:
    with (path.parent / "truth" / f"{path.name}.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    packets = list(read_capture(path.read_bytes()))
    assert len(packets) == len(rows)
    seen: Counter[str] = Counter()
    for packet, row in zip(packets, rows, strict=True):
        seconds, _, fraction = row["frame.time_epoch"].partition(".")
        assert packet.time_ns == int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
        assert packet.original_bytes == int(row["frame.len"])
        assert len(packet.data) == int(row["frame.cap_len"])
        segment = decode(packet)
        if "," in row["ip.src"] + row["ipv6.src"] or ";" in row["ip.src"] + row["ipv6.src"]:
            assert segment is None, "an ICMP error that quotes a TCP header"
            seen["quoted"] += 1
            continue
        assert (segment is not None) == bool(row["tcp.srcport"]), row["frame.number"]
        if segment is not None:
            seen["tcp"] += 1
            check_packet(row, segment)
    assert seen["tcp"]

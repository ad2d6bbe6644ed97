"""Decoded values against tshark's, packet by packet."""

from __future__ import annotations

import csv
import io
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from mptcplab.trace.decode.segments import Decoder, Segments
from mptcplab.trace.files.capture import CaptureFile
from mptcplab.wire.mptcp import (
    AddAddr,
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

_OPTION = "tcp.options.mptcp."


def _numbers(text: str) -> list[int]:
    return [int(part, 0) for part in text.split(";") if part]


_FIELDS = (
    "frame.number", "frame.time_epoch", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst",
    *(f"tcp.{name}" for name in (
        "srcport", "dstport", "flags", "seq_raw", "ack_raw", "len", "window_size_value",
        "options.wscale.multiplier",
    )),
    *(_OPTION + name for name in (
        "subtype", "version", "flags", "addrid", "backup.flag", "sendkey", "recvkey", "recvtok",
        "sendrand", "sendtrunchmac", "sendhmac", "addaddrtrunchmac", "echo", "ipv4", "ipv6", "port",
        "datafin.flag", "rawdataack", "rawdataseqno", "subflowseqno", "datalvllen", "rst_reason",
        "flag_T.flag",
    )),
)  # fmt: skip


def fields_of(capture: Path) -> list[dict[str, str]]:
    """Let tshark decode a capture: one row per packet, several values joined by ``;``."""
    argv = ["tshark", "-r", str(capture), "-T", "fields", "-E", "header=y", "-E", "separator=,"]
    argv += ["-E", "quote=d", "-E", "occurrence=a", "-E", "aggregator=;"]
    argv += [word for name in _FIELDS for word in ("-e", name)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    return list(csv.DictReader(io.StringIO(said.stdout)))


def _ours(capture: Path) -> Iterator[tuple[int, Segments, int, Decoder]]:
    """Yield (packet number, segments, element) of every TCP segment."""
    decoder = Decoder()
    for batch in CaptureFile(capture).batches():
        segments = decoder.decode(batch)
        for element, number in enumerate(segments.number.tolist()):
            yield number, segments, element, decoder
    assert decoder.malformed == []


def _dss(segments: Segments, element: int, row: dict[str, str]) -> None:
    dss = segments.dss
    flag = int(dss.flags[element])
    assert flag in _numbers(row[_OPTION + "flags"])
    acks = [int(dss.data_ack[element])] if dss.has_ack[element] else []
    assert acks == _numbers(row[_OPTION + "rawdataack"])
    maps = dss.has_map[element]
    for column, name in (
        (dss.dsn, "rawdataseqno"),
        (dss.ssn, "subflowseqno"),
        (dss.length, "datalvllen"),
    ):
        ours = [int(column[element])] if maps else []
        theirs = _numbers(row[_OPTION + name])
        assert ours == theirs[: len(ours)]
        assert ours or not theirs
    assert bool(dss.has_fin[element]) == ("1" in row[_OPTION + "datafin.flag"])


def _options(options: list[MptcpOption], row: dict[str, str]) -> None:
    """The values of all options but DSS."""
    sender_keys, receiver_keys, versions = [], [], []
    tokens, nonces, short_hmacs, hmacs, address_ids = [], [], [], [], []
    addresses, ports, add_hmacs = [], [], []
    for option in options:
        match option:
            case MpCapable():
                versions.append(option.version)
                sender_keys += [] if option.sender_key is None else [option.sender_key]
                receiver_keys += [] if option.receiver_key is None else [option.receiver_key]
            case MpJoinSyn():
                tokens.append(option.token)
                nonces.append(option.nonce)
                address_ids.append(option.address_id)
            case MpJoinSynAck():
                nonces.append(option.nonce)
                short_hmacs.append(int.from_bytes(option.hmac, "big"))
                address_ids.append(option.address_id)
            case MpJoinAck():
                hmacs.append(option.hmac.hex())
            case AddAddr():
                address_ids.append(option.address_id)
                addresses.append(str(ip_address(option.address)))
                ports += [] if option.port is None else [option.port]
                add_hmacs += [] if option.hmac is None else [int.from_bytes(option.hmac, "big")]
                if option.version == 1:
                    assert _numbers(row[_OPTION + "echo"]) == [option.echo]
            case RemoveAddr():
                address_ids += option.address_ids
            case MpPrio():
                address_ids += [] if option.address_id is None else [option.address_id]
                assert _numbers(row[_OPTION + "backup.flag"]) == [option.backup]
            case MpFail():
                assert option.dsn in _numbers(row[_OPTION + "rawdataseqno"])
            case MpFastclose():
                receiver_keys.append(option.receiver_key)
            case MpTcpRst():
                assert option.reason in _numbers(row[_OPTION + "rst_reason"])
                assert _numbers(row[_OPTION + "flag_T.flag"]) == [option.transient]
    assert sender_keys == _numbers(row[_OPTION + "sendkey"])
    assert receiver_keys == _numbers(row[_OPTION + "recvkey"])
    assert tokens == _numbers(row[_OPTION + "recvtok"])
    assert nonces == _numbers(row[_OPTION + "sendrand"])
    assert short_hmacs == _numbers(row[_OPTION + "sendtrunchmac"])
    assert hmacs == [text for text in row[_OPTION + "sendhmac"].split(";") if text]
    assert versions == _numbers(row[_OPTION + "version"])
    assert address_ids == _numbers(row[_OPTION + "addrid"])
    theirs = row[_OPTION + "ipv4"].split(";") + row[_OPTION + "ipv6"].split(";")
    assert addresses == [text for text in theirs if text]
    assert ports == _numbers(row[_OPTION + "port"])
    assert add_hmacs == _numbers(row[_OPTION + "addaddrtrunchmac"])


def check_against(capture: Path, truth: list[dict[str, str]]) -> None:
    """Compare every packet of a capture with its row of tshark's fields."""
    seen = set()
    for number, segments, element, decoder in _ours(capture):
        row = truth[number - 1]
        seen.add(number)
        assert abs(float(row["frame.time_epoch"]) * 1e9 - segments.time_ns[element]) < 1000
        source = decoder.book.text(int(segments.source[element]))
        destination = decoder.book.text(int(segments.destination[element]))
        assert source == (row["ip.src"] or row["ipv6.src"])
        assert destination == (row["ip.dst"] or row["ipv6.dst"])
        for ours, name in (
            (segments.source_port, "tcp.srcport"),
            (segments.destination_port, "tcp.dstport"),
            (segments.flags, "tcp.flags"),
            (segments.seq, "tcp.seq_raw"),
            (segments.ack, "tcp.ack_raw"),
            (segments.payload_bytes, "tcp.len"),
            (segments.window, "tcp.window_size_value"),
        ):
            assert int(ours[element]) == int(row[name], 0)
        scale = row["tcp.options.wscale.multiplier"]
        assert int(segments.window_scale[element]) == (int(scale).bit_length() - 1 if scale else -1)
        options = [option for at, option in segments.options if at == element]
        subtypes = [option.subtype for option in options]
        if segments.dss.flags[element] >= 0:
            _dss(segments, element, row)
            subtypes.append(2)
        assert sorted(subtypes) == sorted(_numbers(row[_OPTION + "subtype"]))
        assert bool(segments.is_mptcp[element]) == bool(subtypes)
        _options(options, row)
    assert seen == {int(row["frame.number"]) for row in truth if row["tcp.seq_raw"]}

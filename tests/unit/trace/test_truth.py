"""Decoded values against tshark's, packet by packet, on captures made by others.

They stay out of the project: ``MPTCPLAB_CAPTURES`` names their folder, with ``LISTING.tsv`` and one
CSV of tshark's fields for each in ``truth/``.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mptcplab import trace
from mptcplab.trace.files import CaptureFile
from mptcplab.trace.segments import Decoder, Segments
from mptcplab.wire.mptcp import (
    AddAddr,
    MpCapable,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)

_FOLDER = os.environ.get("MPTCPLAB_CAPTURES")
CAPTURES = sorted(Path(_FOLDER).glob("*.pcap*")) if _FOLDER else []

pytestmark = pytest.mark.skipif(not CAPTURES, reason="MPTCPLAB_CAPTURES names no captures")

_OPTION = "tcp.options.mptcp."


def _truth(capture: Path) -> list[dict[str, str]]:
    path = capture.parent / "truth" / (capture.name + ".csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _numbers(text: str) -> list[int]:
    return [int(part, 0) for part in text.split(";") if part]


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
    tokens, nonces, short_hmacs, hmacs, address_ids, addresses = [], [], [], [], [], []
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
                addresses.append(".".join(str(part) for part in option.address))
            case RemoveAddr():
                address_ids += option.address_ids
            case MpFastclose():
                receiver_keys.append(option.receiver_key)
            case MpTcpRst():
                assert option.reason in _numbers(row[_OPTION + "rst_reason"])
    assert sender_keys == _numbers(row[_OPTION + "sendkey"])
    assert receiver_keys == _numbers(row[_OPTION + "recvkey"])
    assert tokens == _numbers(row[_OPTION + "recvtok"])
    assert nonces == _numbers(row[_OPTION + "sendrand"])
    assert short_hmacs == _numbers(row[_OPTION + "sendtrunchmac"])
    assert hmacs == [text for text in row[_OPTION + "sendhmac"].split(";") if text]
    assert versions == _numbers(row[_OPTION + "version"])
    assert address_ids == _numbers(row[_OPTION + "addrid"])
    if len(addresses) and len(addresses[0]) < 16:
        assert addresses == [text for text in row[_OPTION + "ipv4"].split(";") if text]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_every_packet_decodes_as_in_tshark(capture: Path) -> None:
    truth = _truth(capture)
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


def _listing() -> list[dict[str, str]]:
    if not _FOLDER:
        return []
    with (Path(_FOLDER) / "LISTING.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("row", _listing(), ids=lambda row: row["file"])
def test_connections_and_subflows_are_counted_right(row: dict[str, str]) -> None:
    capture = trace.open(Path(_FOLDER or "") / row["file"])
    # Where a start was captured, tshark's streams beyond those starts are labels of strays.
    connections = int(row["mpc_syn_flows"]) or int(row["tshark_mptcp_streams"])
    subflows = int(row["tshark_subflows"])
    if row["file"].endswith("server_2.pcap"):
        subflows -= 1  # two strays with a SYN's very number before that SYN: tshark's own stream
    assert capture.packets == int(row["packets"])
    assert len(capture.connections) == connections
    assert len(capture.subflows) == subflows
    if row["version"] != "-":
        assert {f"v{connection.version}" for connection in capture.connections} == {row["version"]}

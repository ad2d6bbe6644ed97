"""Decoded values against tshark's, packet by packet, on captures made by others.

They stay out of the project: ``MPTCPLAB_CAPTURES`` names their folder, with ``LISTING.tsv`` and one
CSV of tshark's fields for each in ``truth/``.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from tests.unit.trace.tshark_rows import check_against

from mptcplab import trace

_FOLDER = os.environ.get("MPTCPLAB_CAPTURES")
CAPTURES = sorted(Path(_FOLDER).glob("*.pcap*")) if _FOLDER else []

pytestmark = pytest.mark.skipif(not CAPTURES, reason="MPTCPLAB_CAPTURES names no captures")


def _truth(capture: Path) -> list[dict[str, str]]:
    path = capture.parent / "truth" / (capture.name + ".csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_every_packet_decodes_as_in_tshark(capture: Path) -> None:
    check_against(capture, _truth(capture))


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

"""Boxes and segments for the tests of middleboxes."""

from __future__ import annotations

from typing import Any

from mptcplab.middleboxes import Middlebox, make_box
from mptcplab.middleboxes.packets import packets_of
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.wire.ip import parse_address
from mptcplab.wire.mptcp import Dss
from mptcplab.wire.segment import ACK, Segment

INSIDE, OUTSIDE, PEER = (parse_address(each) for each in ("10.0.1.1", "10.0.1.254", "10.0.9.9"))


def box(kind: str, seed: int = 1, **plan: Any) -> Middlebox:
    """Return a box of a kind."""
    return make_box(MiddleboxPlan(kind, kind, "link", **plan), seed)


def segment(flags: int = ACK, payload: bytes = b"", **fields: Any) -> Segment:
    """Return a segment from inside to the peer."""
    return Segment(
        fields.pop("src", INSIDE),
        fields.pop("src_port", 1000),
        fields.pop("dst", PEER),
        fields.pop("dst_port", 80),
        flags=flags,
        payload=payload or None,
        payload_bytes=len(payload),
        **fields,
    )


def answer(flags: int = ACK, payload: bytes = b"", **fields: Any) -> Segment:
    """Return a segment from the peer to the host inside."""
    ends = {"src": PEER, "src_port": 80, "dst": INSIDE, "dst_port": 1000}
    return segment(flags, payload, **{**ends, **fields})


def mapping(size: int, dsn: int = 100, ssn: int = 1) -> Dss:
    """Return a mapping of so many bytes."""
    return Dss(dsn=dsn, ssn=ssn, data_length=size)


def texts(segments: list[Segment]) -> list[tuple[str, bytes]]:
    """Return the packets that segments stand for, as text and content."""
    return [
        (repr(packet), b"" if packet.payload is None else bytes(packet.payload))
        for each in segments
        for packet in packets_of(each)
    ]

"""MP_CAPABLE and MP_JOIN: what our handshake packets say, and what the peer's may say.

RFC 8684 sections 3.1 and 3.2; RFC 6824 for version 0, which sends the client's key in the SYN and
hashes with SHA-1. The functions know a session and, for joins, a :class:`Join`, and nothing else.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from mptcplab.stack.mptcp.session import Session
from mptcplab.wire.keys import join_hmac
from mptcplab.wire.mptcp import (
    CAPABLE_EXTENSIBILITY,
    CAPABLE_HMAC,
    JOIN_ACK_HMAC_BYTES,
    JOIN_SYNACK_HMAC_BYTES,
    Dss,
    MpCapable,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
)
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64


class Judgment(Enum):
    """What a packet of the handshake leads to."""

    ACCEPT = "go on"
    FALL_BACK = "go on as plain TCP"
    RESET = "reset the subflow"
    IGNORE = "wait for another"


class Join:
    """What MP_JOIN negotiates for one subflow (RFC 8684 section 3.2)."""

    __slots__ = ("local_id", "local_nonce", "remote_id", "remote_nonce", "retries")

    def __init__(self) -> None:
        self.local_id: i64 = 0
        """Address identifiers."""
        self.remote_id: i64 = 0
        self.local_nonce: int = 0
        self.remote_nonce: int = 0
        self.retries: i64 = 0
        """How often the third packet was sent again."""


def find_capable(segment: Segment) -> MpCapable | None:
    """Return the MP_CAPABLE of a segment, if it has one."""
    for option in segment.mptcp:
        if isinstance(option, MpCapable):
            return option
    return None


def find_join_syn(segment: Segment) -> MpJoinSyn | None:
    """Return the MP_JOIN of a SYN, if it has one."""
    for option in segment.mptcp:
        if isinstance(option, MpJoinSyn):
            return option
    return None


def usable_capable(option: MpCapable | None, version: int) -> bool:
    """Say whether MPTCP can be spoken on the terms of a SYN's or SYN/ACK's MP_CAPABLE.

    RFC 8684 section 3.1: flag B must be 0, and an HMAC algorithm that both know must be chosen.
    """
    return (
        option is not None
        and option.version == version
        and not option.flags & CAPABLE_EXTENSIBILITY
        and bool(option.flags & CAPABLE_HMAC)
    )


def usable_offer(option: MpCapable | None, version: int) -> bool:
    """Say whether a listener of ``version`` can answer a SYN's MP_CAPABLE.

    RFC 8684 section 3.1: to an offer of a later version it answers with its own. Version 0 needs
    the key, which later ones leave out of the SYN.
    """
    if option is None or option.version < version:
        return False
    if (version == 0) != (option.sender_key is not None):
        return False
    return usable_capable(option, option.version)


# MP_CAPABLE.


def capable_syn(session: Session, passive: bool) -> tuple[MptcpOption, ...]:
    """Return the options of the initial subflow's SYN or (``passive``) SYN/ACK."""
    key = session.local_key if passive or session.version == 0 else None
    return (MpCapable(session.version, session.capable_flags(), key),)


def capable_ack(session: Session) -> tuple[MptcpOption, ...]:
    """Return the options of the third packet: both keys."""
    return (
        MpCapable(session.version, session.capable_flags(), session.local_key, session.peer_key),
    )


def judge_capable_syn_ack(session: Session, segment: Segment, offered: bool) -> Judgment:
    """Judge the SYN/ACK of the initial subflow; take its key if it is accepted.

    ``offered`` says that our last SYN did offer MPTCP.
    """
    if not session.mptcp:
        return Judgment.ACCEPT
    option = find_capable(segment)
    if (
        option is None
        or not offered
        or not usable_capable(option, session.version)
        or option.sender_key is None
    ):
        return Judgment.FALL_BACK
    session.take_capable(option)
    return Judgment.ACCEPT


def judge_capable_ack(session: Session, segment: Segment, in_order: bool) -> Judgment:
    """Judge the ACK that ends a passive open; take its key if it is accepted.

    Flag B, or no HMAC algorithm that we know, leads to TCP here too (RFC 8684 section 3.1). So does
    text that is ``in_order``, so that nothing can have mapped it before, and that nothing maps:
    what Linux's clients send again of a SYN's data is so, and its servers fall back then
    (mptcp_parse_option, subflow_syn_recv_sock).
    """
    if not session.mptcp:
        return Judgment.ACCEPT
    if in_order and segment.payload_bytes and session.version > 0 and not _maps(segment):
        return Judgment.FALL_BACK
    option = find_capable(segment)
    if option is not None and option.sender_key is not None:
        if option.receiver_key == session.local_key and usable_capable(option, session.version):
            session.take_capable(option)
            return Judgment.ACCEPT
    elif any(isinstance(item, Dss) for item in segment.mptcp):
        # The third packet was lost, or overtaken. Version 0 had the key in the SYN; version 1 has
        # to wait for the packet that carries it.
        return Judgment.ACCEPT if session.version == 0 else Judgment.IGNORE
    return Judgment.FALL_BACK


def _maps(segment: Segment) -> bool:
    """Say whether an option of a segment maps data."""
    return any(
        (isinstance(option, MpCapable) and option.data_length is not None)
        or (isinstance(option, Dss) and option.dsn is not None)
        for option in segment.mptcp
    )


# MP_JOIN.


def join_syn(session: Session, join: Join, backup: bool) -> tuple[MptcpOption, ...]:
    """Return the options of a further subflow's SYN."""
    return (MpJoinSyn(backup, join.local_id, session.peer_token, join.local_nonce),)


def join_syn_ack(session: Session, join: Join, backup: bool) -> tuple[MptcpOption, ...]:
    """Return the options of our SYN/ACK to a join."""
    hmac = _our_hmac(session, join)[:JOIN_SYNACK_HMAC_BYTES]
    return (MpJoinSynAck(backup, join.local_id, hmac, join.local_nonce),)


def join_ack(session: Session, join: Join) -> tuple[MptcpOption, ...]:
    """Return the options of a join's third packet."""
    return (MpJoinAck(_our_hmac(session, join)[:JOIN_ACK_HMAC_BYTES]),)


def judge_join_syn_ack(session: Session, join: Join, segment: Segment) -> MpJoinSynAck | None:
    """Return the MP_JOIN of a SYN/ACK if its HMAC is right; ``join`` takes what it says.

    RFC 8684 section 3.2: a wrong or absent HMAC is answered with a RST.
    """
    for option in segment.mptcp:
        if isinstance(option, MpJoinSynAck):
            join.remote_nonce = option.nonce
            join.remote_id = option.address_id
            if option.hmac == _their_hmac(session, join)[:JOIN_SYNACK_HMAC_BYTES]:
                return option
    return None


def judge_join_ack(session: Session, join: Join, segment: Segment) -> Judgment:
    """Judge the third packet of a join.

    Without MP_JOIN something else overtook it, or it lost its option: there is no fallback here.
    """
    for option in segment.mptcp:
        if isinstance(option, MpJoinAck):
            if option.hmac == _their_hmac(session, join)[:JOIN_ACK_HMAC_BYTES]:
                return Judgment.ACCEPT
            return Judgment.RESET
    return Judgment.RESET


def _our_hmac(session: Session, join: Join) -> bytes:
    return join_hmac(
        session.local_key, session.peer_key, join.local_nonce, join.remote_nonce, session.version
    )


def _their_hmac(session: Session, join: Join) -> bytes:
    return join_hmac(
        session.peer_key, session.local_key, join.remote_nonce, join.local_nonce, session.version
    )

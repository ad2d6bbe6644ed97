"""MP_CAPABLE and MP_JOIN: what our handshake packets say, and what the peer's may say.

RFC 8684 sections 3.1 and 3.2; RFC 6824 for version 0, which sends the client's key in the SYN and
hashes with SHA-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp import fallback
from mptcplab.stack.tcp.state import SYN_RECEIVED
from mptcplab.wire.keys import join_hmac
from mptcplab.wire.mptcp import (
    CAPABLE_CHECKSUM,
    CAPABLE_EXTENSIBILITY,
    CAPABLE_HMAC,
    CAPABLE_NO_JOIN,
    JOIN_ACK_HMAC_BYTES,
    JOIN_SYNACK_HMAC_BYTES,
    RST_MPTCP_ERROR,
    Dss,
    MpCapable,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
    MpTcpRst,
)
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mptcplab.stack.mptcp.connection import Connection
    from mptcplab.stack.mptcp.subflow import MptcpSubflow


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


def capable_flags(checksum: bool, allow_join_initial: bool, version: int) -> int:
    """Return our flags byte of MP_CAPABLE."""
    flags = CAPABLE_HMAC
    if checksum:
        flags |= CAPABLE_CHECKSUM
    if version != 0 and not allow_join_initial:
        flags |= CAPABLE_NO_JOIN
    return flags


def syn_options(subflow: MptcpSubflow) -> tuple[MptcpOption, ...]:
    """Return the options of our SYN or SYN/ACK."""
    connection = subflow.connection
    if not connection.mptcp:
        return ()
    passive = subflow.state is SYN_RECEIVED
    if subflow.initial:
        if not passive and subflow.syn_timeouts > subflow.config.syn_mptcp_retries:
            return ()  # a box may drop SYNs with options it does not know
        key = connection.local_key if passive or connection.version == 0 else None
        return (MpCapable(connection.version, connection.capable_flags(), key),)
    if passive:
        return (
            MpJoinSynAck(
                subflow.backup_local,
                subflow.local_id,
                _our_hmac(subflow)[:JOIN_SYNACK_HMAC_BYTES],
                subflow.local_nonce,
            ),
        )
    return (
        MpJoinSyn(
            subflow.backup_local, subflow.local_id, connection.peer_token, subflow.local_nonce
        ),
    )


def ack_options(subflow: MptcpSubflow) -> tuple[MptcpOption, ...]:
    """Return the options of the third packet of an active open."""
    connection = subflow.connection
    if subflow.initial:
        return (
            MpCapable(
                connection.version,
                connection.capable_flags(),
                connection.local_key,
                connection.peer_key,
            ),
        )
    return (MpJoinAck(_our_hmac(subflow)[:JOIN_ACK_HMAC_BYTES]),)


def judge_syn_ack(subflow: MptcpSubflow, segment: Segment, now_ns: int) -> bool:
    """Take in the SYN/ACK of an active open; ``False`` if the subflow was reset for it."""
    connection = subflow.connection
    if not connection.mptcp:
        return True
    if subflow.initial:
        option = find_capable(segment)
        if (
            option is None
            or not usable_capable(option, connection.version)
            or option.sender_key is None
            or not subflow.on_syn_options()
        ):
            fallback.to_tcp(connection, "SYN/ACK without a usable MP_CAPABLE", now_ns)
            return True
        connection.set_peer_key(option.sender_key, option.flags)
        return True
    for join in segment.mptcp:
        if isinstance(join, MpJoinSynAck):
            subflow.remote_nonce = join.nonce
            subflow.remote_id = join.address_id
            subflow.backup_remote = join.backup
            if join.hmac == _their_hmac(subflow)[:JOIN_SYNACK_HMAC_BYTES]:
                return True
    # RFC 8684 section 3.2: a wrong or absent HMAC is answered with a RST.
    subflow.sender.snd_una = 1
    subflow.sender.snd_nxt = 1
    if connection.version != 0:
        subflow.reset_option = MpTcpRst(RST_MPTCP_ERROR)
    subflow.outbox.append(subflow.make_reset())
    subflow.reset(CloseReason.PROTOCOL, now_ns)
    return False


def judge_ack(subflow: MptcpSubflow, segment: Segment, now_ns: int) -> bool:
    """Take in the ACK that ends a passive open; ``False`` if it does not."""
    connection = subflow.connection
    if not connection.mptcp:
        return True
    if subflow.initial:
        return _judge_initial_ack(connection, segment, now_ns)
    for join in segment.mptcp:
        if isinstance(join, MpJoinAck):
            if join.hmac == _their_hmac(subflow)[:JOIN_ACK_HMAC_BYTES]:
                return True
            subflow.reset_for(RST_MPTCP_ERROR, CloseReason.PROTOCOL, now_ns)
            return False
    # Something else overtook the third packet, or lost its option: there is no fallback here.
    subflow.reset_for(RST_MPTCP_ERROR, CloseReason.PROTOCOL, now_ns)
    return False


def _judge_initial_ack(connection: Connection, segment: Segment, now_ns: int) -> bool:
    option = find_capable(segment)
    if option is not None and option.sender_key is not None:
        if option.receiver_key == connection.local_key and option.version == connection.version:
            connection.set_peer_key(option.sender_key, option.flags)
            return True
    elif any(isinstance(item, Dss) for item in segment.mptcp):
        # The third packet was lost, or overtaken. Version 0 had the key in the SYN; version 1 has
        # to wait for the packet that carries it.
        return connection.version == 0
    fallback.to_tcp(connection, "ACK of the handshake without MP_CAPABLE", now_ns)
    return True


def _our_hmac(subflow: MptcpSubflow) -> bytes:
    connection = subflow.connection
    return join_hmac(
        connection.local_key,
        connection.peer_key,
        subflow.local_nonce,
        subflow.remote_nonce,
        connection.version,
    )


def _their_hmac(subflow: MptcpSubflow) -> bytes:
    connection = subflow.connection
    return join_hmac(
        connection.peer_key,
        connection.local_key,
        subflow.remote_nonce,
        subflow.local_nonce,
        connection.version,
    )

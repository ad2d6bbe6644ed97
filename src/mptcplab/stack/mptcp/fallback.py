"""Signs that MPTCP options are being removed on the way (RFC 8684 section 3.7).

There are three stages. During the handshake the options are simply absent (``handshake``). Until a
DATA_ACK or a mapping came from the peer, their lack shows that a box removes them. Later, with one
subflow only, ACKs without DATA_ACK, lost mappings or a failed checksum lead to the infinite
mapping. The functions read what they are given; what follows from it is ``mode``'s table to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack.mptcp.handshake import find_capable, usable_capable
from mptcplab.stack.mptcp.mode import Evidence
from mptcplab.wire.mptcp import Dss
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64


def of_first_segments(
    is_client: bool, segment: Segment, dss: Dss | None, snd_una: i64
) -> Evidence | None:
    """Return what a segment shows while MPTCP is offered and not yet confirmed.

    RFC 8684 section 3.7: data without a mapping, or ACKs without a DATA_ACK, at the start mean that
    options are being removed. ``snd_una`` is the initial subflow's; the SYN is number 0.
    """
    if dss is not None and dss.data_ack is not None:
        return Evidence.CONFIRMED
    if is_client:
        if segment.mptcp or (not segment.payload_bytes and snd_una <= 1):
            return None
    else:
        option = find_capable(segment)
        if option is not None and usable_capable(option, option.version):
            with_data = option.data_length is not None and segment.payload_bytes > 0
            return Evidence.CONFIRMED if with_data else None
        if segment.mptcp and option is None:
            return None
    return Evidence.FIRST_BARE


def acks_outrun_data_acks(
    snd_una: i64, tx_delta: i64, fin_seq: i64, data_acked_offset: i64
) -> bool:
    """Say whether a subflow's ACKs cover data for which no DATA_ACK came."""
    return snd_una + tx_delta > data_acked_offset and not 0 <= fin_seq < snd_una


def join_is_stripped(
    initial: bool, saw_data_ack: bool, segment: Segment, snd_una: i64, fin_seq: i64
) -> bool:
    """Say whether a segment without DSS shows that a joined subflow's path removes options.

    RFC 8684 section 3.7: the first ACK of data has to bring a DATA_ACK.
    """
    if initial or saw_data_ack or segment.mptcp:
        return False
    return snd_una > 1 and fin_seq < 0

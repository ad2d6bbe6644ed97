"""What a connection speaks: Multipath TCP, plain TCP, or MPTCP with an infinite mapping.

The table below is RFC 8684 sections 3.1 and 3.7. It says what each piece of evidence makes of each
mode. Evidence that the table does not list in a mode changes nothing there.

Falling back to the order of one subflow is possible only while that subflow alone has carried the
stream (:func:`judge`'s ``alone``). Otherwise the connection can but go on without the subflow.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Mode(Enum):
    """What the two directions are made of."""

    OFFERED = "MPTCP offered or accepted, and not yet confirmed by the peer's data or DATA_ACK"
    FULL = "MPTCP, fully established: joins may start"
    RX_INFINITE = "what arrives stands in the order of its subflow; what leaves is mapped"
    TX_INFINITE = "what leaves stands in the order of its subflow; what arrives is mapped"
    INFINITE = "both directions stand in the order of the one subflow"
    PLAIN = "TCP without MPTCP, from the start or since the handshake"


OFFERED: Final[Mode] = Mode.OFFERED
FULL: Final[Mode] = Mode.FULL
PLAIN: Final[Mode] = Mode.PLAIN


class Evidence(Enum):
    """What shows that a connection speaks, or can speak, something else than it did."""

    CONFIRMED = "the peer's DATA_ACK, data under MP_CAPABLE, or ADD_ADDR came"
    NO_CAPABLE = "SYN/ACK without a usable MP_CAPABLE"
    NO_THIRD_CAPABLE = "ACK of the handshake without MP_CAPABLE"
    FIRST_BARE = "first segments without MPTCP options"
    UNMAPPED_DATA = "data without a mapping"
    BARE_ACKS = "acknowledgments without DATA_ACK"
    INFINITE_MAPPING = "infinite mapping received"
    BAD_CHECKSUM = "a mapping's checksum failed"
    FAIL_RECEIVED = "MP_FAIL received"


TRANSITIONS: Final[dict[tuple[Mode, Evidence], Mode]] = {
    # Section 3.1: the handshake is over once the peer is known to have our key.
    (Mode.OFFERED, Evidence.CONFIRMED): Mode.FULL,
    # Section 3.7, at the start: options are absent, or are being removed.
    (Mode.OFFERED, Evidence.NO_CAPABLE): Mode.PLAIN,
    (Mode.OFFERED, Evidence.NO_THIRD_CAPABLE): Mode.PLAIN,
    (Mode.OFFERED, Evidence.FIRST_BARE): Mode.PLAIN,
    # Section 3.7, later: what is mapped stands, what follows has the order of the subflow.
    (Mode.OFFERED, Evidence.UNMAPPED_DATA): Mode.INFINITE,
    (Mode.FULL, Evidence.UNMAPPED_DATA): Mode.INFINITE,
    (Mode.TX_INFINITE, Evidence.UNMAPPED_DATA): Mode.INFINITE,
    (Mode.OFFERED, Evidence.INFINITE_MAPPING): Mode.INFINITE,
    (Mode.FULL, Evidence.INFINITE_MAPPING): Mode.INFINITE,
    (Mode.TX_INFINITE, Evidence.INFINITE_MAPPING): Mode.INFINITE,
    (Mode.OFFERED, Evidence.BARE_ACKS): Mode.INFINITE,
    (Mode.FULL, Evidence.BARE_ACKS): Mode.INFINITE,
    (Mode.RX_INFINITE, Evidence.BARE_ACKS): Mode.INFINITE,
    # Section 3.7: MP_FAIL, one direction at a time.
    (Mode.OFFERED, Evidence.BAD_CHECKSUM): Mode.RX_INFINITE,
    (Mode.FULL, Evidence.BAD_CHECKSUM): Mode.RX_INFINITE,
    (Mode.TX_INFINITE, Evidence.BAD_CHECKSUM): Mode.INFINITE,
    (Mode.OFFERED, Evidence.FAIL_RECEIVED): Mode.TX_INFINITE,
    (Mode.FULL, Evidence.FAIL_RECEIVED): Mode.TX_INFINITE,
    (Mode.RX_INFINITE, Evidence.FAIL_RECEIVED): Mode.INFINITE,
}

NEEDS_ONE_SUBFLOW: Final = (
    Evidence.UNMAPPED_DATA,
    Evidence.BARE_ACKS,
    Evidence.INFINITE_MAPPING,
    Evidence.BAD_CHECKSUM,
    Evidence.FAIL_RECEIVED,
)
"""Evidence by which a connection falls back in its middle."""


class Verdict(Enum):
    """What to do about evidence."""

    CHANGE = "take the new mode"
    KEEP = "nothing changes"
    IMPOSSIBLE = "no fallback: data of the stream may have gone elsewhere"


def judge(mode: Mode, evidence: Evidence, alone: bool) -> Verdict:
    """Return what ``evidence`` on a subflow asks for.

    ``alone`` says that the subflow is the initial one, that no other was ever established, and that
    all data of the stream have come in its order.
    """
    if (mode, evidence) not in TRANSITIONS:
        return Verdict.KEEP
    if evidence in NEEDS_ONE_SUBFLOW and not alone:
        return Verdict.IMPOSSIBLE
    return Verdict.CHANGE


def next_mode(mode: Mode, evidence: Evidence) -> Mode:
    """Return the mode after ``evidence``."""
    return TRANSITIONS.get((mode, evidence), mode)

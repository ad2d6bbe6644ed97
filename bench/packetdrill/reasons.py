"""Differences that an RFC explains: each kind with the sentence that the table prints."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a script asks for something else than our stack does."""

    FAST_OPEN = (
        "TCP Fast Open is experimental and optional (RFC 7413; RFC 8684 appendix B): not offered"
    )
    NO_TIMESTAMPS = (
        "a segment without the timestamps that were negotiated is dropped (RFC 7323 section 3.2); "
        "played with them"
    )
    JOIN_BACKUP = (
        "B on the SYN/ACK of a join is the wish of who sends it (RFC 8684 sections 3.2, 3.3.8), "
        "not an echo of the SYN's"
    )
    BREAK_BEFORE_MAKE = (
        "a connection that has lost its last subflow waits for a join before it is closed "
        "(RFC 8684 section 3.3.3)"
    )

    RETRANSMISSION_TIMER = (
        "what is repeated waits for a whole RTO, which doubles from the first repetition on (RFC "
        "6298 sections 2.2 and 5.5)"
    )
    PIGGYBACK = (
        "an acknowledgment that the next segment, sent at once, carries is not sent apart (RFC "
        "9293 section 3.8.6.3)"
    )
    WINDOW_UPDATE = (
        "the window has grown by more than a segment, and the peer is told (RFC 9293 section "
        "3.8.6.2.2)"
    )


class Mismatch(Exception):  # noqa: N818
    """The stack did something else than the script says."""


class Stopped(Exception):  # noqa: N818
    """The script asks for something that an RFC leaves open and our stack does not have."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason

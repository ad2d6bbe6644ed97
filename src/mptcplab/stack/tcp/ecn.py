"""Explicit congestion notification of one subflow (RFC 3168), and its precise form (RFC 8257).

Queues mark packets in the place of dropping them; the receiver echoes a mark on its ACKs until the
sender says that it has reduced its window. With DCTCP the echo says of each ACK whether what it
acknowledges was marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.wire.segment import CE, CWR, ECE, ECT_0, NOT_ECT, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

NEVER_ECN: Final = 0
REQUEST_ECN: Final = 1
"""What the setting says; see ``StackConfig.ecn``."""


class Ecn:
    """What one end has agreed upon, what it echoes, and what it has to say."""

    __slots__ = ("_accepts", "_echoing", "_precise", "_requests", "cwr_due", "enabled")

    def __init__(self, setting: int, *, precise: bool) -> None:
        """With ``precise``, as DCTCP needs it; it also asks for ECN whatever the setting."""
        self._requests: bool = precise or setting == REQUEST_ECN
        self._accepts: bool = precise or setting != NEVER_ECN
        self._precise: bool = precise
        self._echoing: bool = False
        self.enabled: bool = False
        """Whether both ends know ECN on this subflow."""
        self.cwr_due: bool = False
        """Whether the next new data say that the window was reduced."""

    # The handshake (section 6.1.1).

    def syn_flags(self, passive: bool, again: bool) -> i64:
        """Return the flags of our SYN or, ``passive``, SYN/ACK; sent ``again`` without (6.1.1.1).

        A SYN that asks for ECN may be what a middlebox drops.
        """
        if passive:
            return ECE if self.enabled else 0
        return ECE | CWR if self._requests and not again else 0

    def take_syn(self, flags: i64) -> None:
        """A peer's SYN came."""
        self.enabled = self._accepts and flags & (ECE | CWR) == ECE | CWR

    def take_syn_ack(self, flags: i64) -> None:
        """The answer to our SYN came."""
        self.enabled = self._requests and flags & (ECE | CWR) == ECE

    # Receiving (section 6.1.3).

    def take_text(self, segment: Segment) -> bool:
        """Text came; say whether it is to be acknowledged at once.

        DEVIATION: RFC 8257 (section 3.2) acknowledges what is pending when marks begin or end. A
        precise receiver here leaves nothing pending, so that no ACK covers both.
        """
        if not self.enabled:
            return False
        marked = segment.ecn == CE
        if self._precise:
            self._echoing = marked
            return True
        if segment.flags & CWR:
            self._echoing = False
        if marked:
            self._echoing = True
        return marked

    def ack_flags(self) -> i64:
        """Return the flags that an ACK carries besides its own."""
        return ECE if self._echoing else 0

    # Sending (sections 6.1.2, 6.1.4 and 6.1.5).

    def stamp_data(self, segment: Segment, new: bool) -> None:
        """Text leaves: new data are ECN-capable, what is sent again only with the precise form."""
        if not self.enabled:
            return
        segment.ecn = ECT_0 if new or self._precise else NOT_ECT
        if new and self.cwr_due:
            self.cwr_due = False
            segment.flags |= CWR

    def stamp_ack(self, segment: Segment) -> None:
        """An ACK leaves, which is ECN-capable only with the precise form (Linux's dctcp)."""
        segment.flags |= self.ack_flags()
        if self.enabled and self._precise:
            segment.ecn = ECT_0

"""The SYN of one subflow, and what goes with it by TCP Fast Open (RFC 7413)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i64


class Opening:
    """What our SYN or SYN/ACK has beside the usual options, and what became of it."""

    __slots__ = ("acked_bytes", "cookie", "fast", "payload", "room_bytes", "sent_bytes", "timeouts")

    def __init__(self) -> None:
        self.timeouts: i64 = 0
        """Of the SYN; what is sent again has neither cookie nor data (tcp_send_syn_data)."""
        self.cookie: bytes | None = None
        """To be sent, empty to ask for one; ``None`` to leave the option out."""
        self.room_bytes: i64 = 0
        """How much our SYN may carry: something only with the peer's cookie."""
        self.sent_bytes: i64 = 0
        """How much it does carry."""
        self.payload: bytes | None = None
        self.acked_bytes: i64 = 0
        """How much of that the peer's SYN/ACK acknowledges."""
        self.fast: bool = False
        """The peer's SYN had our cookie: we may send before the handshake's last ACK."""

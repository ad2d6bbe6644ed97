"""The causes by which a direction of a connection is held back, and what is said of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Cause(StrEnum):
    """What a direction of a connection waits for at a moment; exactly one at a time."""

    HANDSHAKE = "handshake"
    """The connection is not up yet."""
    APPLICATION = "application"
    """The sending application has written nothing that is not sent."""
    SEND_BUFFER = "send-buffer"
    """The send buffer is full of data on the way: the application may not write more."""
    RECEIVE_WINDOW = "receive-window"
    """The receiver's window has no room for the next segment."""
    HEAD_OF_LINE = "head-of-line"
    """A window or buffer is full because bytes that one subflow carries are missing."""
    CONGESTION_WINDOW = "congestion-window"
    """The congestion windows of all usable subflows are full, and no link of theirs is."""
    LINK = "link"
    """A link on the way is full: it sends all the time, packets wait in its queue."""
    CPU = "cpu"
    """A processor of a host, of a sender, a receiver or of the laboratory itself is busy."""
    SCHEDULER = "scheduler"
    """A subflow had room, there was data, and it was not used."""
    STALLED = "stalled"
    """Data waits and nothing moves any more until the end."""
    UNKNOWN = "unknown"
    """The evidence does not say."""


@dataclass(frozen=True, slots=True)
class FullLinks:
    """A kind of `Cause.LINK`: what was full on the way, and which paths were not."""

    full: tuple[str, ...]
    """Links and NICs."""
    others: tuple[str, ...] = ()
    """Names of paths."""

    def __str__(self) -> str:
        besides = f" but not {' and '.join(self.others)}" if self.others else ""
        return f"{' and '.join(self.full)} full{besides}"


@dataclass(frozen=True, slots=True)
class DownPaths:
    """A kind of `Cause.LINK`: every path was down."""

    paths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' and '.join(self.paths)} down"


Kind = str | FullLinks | DownPaths
"""Of what kind a cause was, and where: a text, or a value that is worded when it is told."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long one cause held one direction of a connection back."""

    connection: str
    """What the source calls it: ``FLOW`` or ``FLOW/1`` in runs, its number in captures."""
    direction: str
    """``client-to-server`` or ``server-to-client``; the client is who opened the connection."""
    cause: Cause
    seconds: float
    share: float
    """Of the time from the connection's first packet to its last (0 to 1)."""
    detail: str
    """Of what kind, where, which values: ``the reader takes 500 kB/s``; may be empty."""
    advice: str
    """What to change, with the value where the evidence gives one; empty if nothing follows."""

    def to_json(self) -> dict[str, str | float]:
        """Return the entry of the list ``limits`` of ``--json``."""
        return {
            "connection": self.connection,
            "direction": self.direction,
            "cause": self.cause.value,
            "seconds": round(self.seconds, 9),
            "share": round(self.share, 6),
            "detail": self.detail,
            "advice": self.advice,
        }


CLIENT_TO_SERVER: Final = "client-to-server"
SERVER_TO_CLIENT: Final = "server-to-client"

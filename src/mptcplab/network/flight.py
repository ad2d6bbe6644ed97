"""What has left a transmitter and will arrive: the wire of one direction of a link."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from mptcplab.loop.timers import NEVER
from mptcplab.network.impairments import JitterDistribution
from mptcplab.network.jitter import Jitter, jitter_of
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece, arrival_order, arriving, copy_of

if TYPE_CHECKING:
    from mypy_extensions import i64


class Flight:
    """Pieces in the order in which they arrive, linked by `arrives_next`.

    A piece arrives a delay and a jitter after its last bit is sent (`end_ns`), or at once where it
    is an early one; unless jitter may reorder or it is early, not before those that left earlier.
    `random` draws the jitter.
    """

    __slots__ = (
        "_delay_ns",
        "_first",
        "_jitter",
        "_last",
        "_last_ns",
        "_least_ns",
        "_random",
        "_reorder",
    )

    def __init__(self, parameters: ChannelParameters, random: Random) -> None:
        self._random = random
        self._first: Piece | None = None
        self._last: Piece | None = None
        self._last_ns: i64 = 0
        """When the last of those that may not be overtaken arrives."""
        self._delay_ns: i64 = parameters.delay_ns
        self._jitter: Jitter | None = jitter_of(parameters, random)
        self._reorder: bool = parameters.jitter_reorders
        self._least_ns: i64 = _least_delay_ns(parameters)

    def next_ns(self) -> i64:
        """When the next piece arrives; `NEVER` where none is under way."""
        first = self._first
        if first is None:
            return NEVER
        return first.arrival_ns

    def least_delay_ns(self) -> i64:
        """How long after it is sent a piece arrives at the earliest."""
        return self._least_ns

    def is_empty(self) -> bool:
        """Say whether nothing is under way."""
        return self._first is None

    def take(self, now_ns: i64) -> Piece | None:
        """Return the next piece that has arrived by now, or None."""
        piece = self._first
        if piece is None or piece.arrival_ns > now_ns:
            return None
        if piece.duplicate:
            piece.duplicate = False
            return copy_of(piece)
        self._first = piece.arrives_next
        piece.arrives_next = None
        return piece

    def depart(self, piece: Piece) -> None:
        """Let a piece arrive, whose `end_ns` is set."""
        if self._jitter is not None:
            piece.jitter_ns = self._jitter.draw_ns()
        arrival_ns = self._arrival_ns(piece)
        if self._reorder or piece.early:
            self._insert(piece, arrival_ns)
            return
        if arrival_ns < self._last_ns:
            arrival_ns = self._last_ns
        self._last_ns = arrival_ns
        piece.arrival_ns = arrival_ns
        self._append(piece)

    def configure(self, parameters: ChannelParameters, unsent: list[Piece]) -> None:
        """Take other parameters, which hold for pieces that leave from now on, and `unsent` ones.

        Call `replan` once it is known when these leave.
        """
        changed = self._delay_ns != parameters.delay_ns
        was = 0 if self._jitter is None else self._jitter.width_ns
        self._delay_ns = parameters.delay_ns
        self._reorder = parameters.jitter_reorders
        self._least_ns = _least_delay_ns(parameters)
        self._jitter = jitter_of(parameters, self._random)
        if changed or was != parameters.jitter_ns:
            for piece in unsent:
                piece.jitter_ns = 0 if self._jitter is None else self._jitter.draw_ns()

    def replan(self, unsent: list[Piece]) -> None:
        """Work out anew when what is not sent yet will arrive."""
        for piece in unsent:
            piece.arrival_ns = -1
        last_ns: i64 = 0
        for piece in reversed(arriving(self._first)):
            if piece.arrival_ns >= 0 and not piece.early:
                last_ns = piece.arrival_ns
                break
        for piece in unsent:
            if not piece.lost:
                arrival_ns = self._arrival_ns(piece)
                if not (self._reorder or piece.early):
                    arrival_ns = last_ns = max(arrival_ns, last_ns)
                piece.arrival_ns = arrival_ns
        self._last_ns = last_ns
        self._set(sorted(arriving(self._first), key=arrival_order))

    def cut(self, now_ns: int) -> list[Piece]:
        """Take out and return all that has not arrived by now: the wire is cut."""
        pieces = arriving(self._first)
        self._set([piece for piece in pieces if piece.arrival_ns <= now_ns])
        self._last_ns = now_ns
        return [piece for piece in pieces if piece.arrival_ns > now_ns]

    def _arrival_ns(self, piece: Piece) -> i64:
        if piece.end_ns == NEVER:
            return NEVER
        if piece.early:
            return piece.end_ns
        delay_ns = self._delay_ns + piece.jitter_ns
        return piece.end_ns + delay_ns if delay_ns > 0 else piece.end_ns

    def _insert(self, piece: Piece, arrival_ns: i64) -> None:
        """Let a piece arrive when it does, whatever left before it."""
        piece.arrival_ns = arrival_ns
        flight = arriving(self._first)
        place = len(flight)
        while place and flight[place - 1].arrival_ns > arrival_ns:
            place -= 1
        flight.insert(place, piece)
        self._set(flight)

    def _set(self, pieces: list[Piece]) -> None:
        """Let these pieces arrive, in this order."""
        self._first = None
        for piece in pieces:
            piece.arrives_next = None
            self._append(piece)

    def _append(self, piece: Piece) -> None:
        """Let a piece arrive after all others."""
        last = self._last
        if self._first is None or last is None:
            self._first = piece
        else:
            last.arrives_next = piece
        self._last = piece


def _least_delay_ns(parameters: ChannelParameters) -> int:
    if parameters.jitter_distribution is JitterDistribution.NORMAL and parameters.jitter_ns:
        return 0  # Pareto's least is above that of the uniform one
    return max(0, parameters.delay_ns - parameters.jitter_ns)

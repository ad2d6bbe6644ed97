"""The clock and its timers: the one interface that virtual and real time share.

A `Loop` knows the time and wakes `Timer` objects. Time is integer nanoseconds. Timers due at the
same instant expire in the order in which they were set.

A timer stores its deadline and leaves its heap entry alone when the deadline moves later: the
entry is put back when it surfaces early. Retransmission timers move with every acknowledgement
and seldom expire, so this is several times cheaper than a cancel and a push.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

NEVER: Final = 1 << 61
"""A time that does not come: the deadline of a timer that is not set (nanoseconds; 73 years, and
within the integers that a compiled build handles without allocation)."""


class Loop(ABC):
    """A clock, and the timers that wait on it.

    `now_ns` is the time of the event being handled: it does not move while a handler runs, which
    makes handlers reproducible. In real time it is never earlier than the deadline that is being
    served, so that a timer never sees itself as early.
    """

    __slots__ = ("_heap", "_sequence", "_stopped", "events", "now_ns")

    def __init__(self, start_ns: int) -> None:
        self.now_ns = start_ns
        self.events = 0
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._stopped = False

    @abstractmethod
    def run(self, until_ns: int = NEVER) -> None:
        """Handle events until `until_ns` (included), until `stop`, or until none can come."""

    def stop(self) -> None:
        """Let `run` return once the event being handled is done."""
        self._stopped = True

    def call_at(self, time_ns: int, callback: Callable[[], None]) -> Timer:
        """Call back once at `time_ns` (at once, in turn, when that is past)."""
        timer = CallbackTimer(self, callback)
        timer.set(time_ns)
        return timer

    def next_deadline_ns(self) -> int:
        """When the next timer expires, or `NEVER`; puts back entries that surfaced early."""
        heap = self._heap
        while heap:
            time_ns, sequence, timer = heap[0]
            if timer._entry == sequence:
                if timer._order == sequence:
                    return time_ns
                heappop(heap)
                self._put_back(timer)
            else:
                heappop(heap)
        return NEVER

    def _expire_next(self) -> None:
        """Expire the timer on top of the heap; `next_deadline_ns` has just tidied the heap."""
        timer = heappop(self._heap)[2]
        timer._entry = -1
        timer.deadline_ns = NEVER
        self.events += 1
        timer.expire()

    def _put_back(self, timer: Timer) -> None:
        """Queue a timer whose entry surfaced before its deadline (or after it was cancelled)."""
        if timer.deadline_ns == NEVER:
            timer._entry = -1
        else:
            timer._entry = timer._order
            timer._entry_ns = timer.deadline_ns
            heappush(self._heap, (timer.deadline_ns, timer._order, timer))


class Timer(ABC):
    """Something that wants to be woken at one time; subclasses say what then happens."""

    __slots__ = ("_entry", "_entry_ns", "_order", "deadline_ns", "loop")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.deadline_ns = NEVER
        self._order = -1  # its turn among timers of the same deadline
        self._entry = -1  # the turn under which the heap holds it, -1 for not at all
        self._entry_ns = 0

    @abstractmethod
    def expire(self) -> None:
        """The deadline has come; the timer is unset and may be set again."""

    def set(self, deadline_ns: int) -> None:
        """Expire at `deadline_ns`, and no more at the deadline set before.

        A deadline in the past expires at the present. Setting the same deadline again keeps the
        timer's turn.
        """
        loop = self.loop
        if deadline_ns < loop.now_ns:
            deadline_ns = loop.now_ns
        if deadline_ns == self.deadline_ns:
            return
        if deadline_ns >= NEVER:
            self.cancel()
            return
        self.deadline_ns = deadline_ns
        order = loop._sequence
        loop._sequence = order + 1
        self._order = order
        if self._entry < 0 or deadline_ns < self._entry_ns:
            self._entry = order
            self._entry_ns = deadline_ns
            heappush(loop._heap, (deadline_ns, order, self))

    def cancel(self) -> None:
        """Do not expire."""
        self.deadline_ns = NEVER
        self._order = -1

    @property
    def is_set(self) -> bool:
        """Whether a deadline is pending."""
        return self.deadline_ns != NEVER


class CallbackTimer(Timer):
    """A timer that calls a function without arguments."""

    __slots__ = ("_callback",)

    def __init__(self, loop: Loop, callback: Callable[[], None]) -> None:
        super().__init__(loop)
        self._callback = callback

    def expire(self) -> None:
        """Call the function."""
        self._callback()

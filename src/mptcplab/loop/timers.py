"""The clock and its timers: the one interface that virtual and real time share.

A `Loop` knows the time and wakes `Timer` objects. Time is integer nanoseconds. Timers due at the
same instant expire in the order in which they were set.

Timers wait in a pairing heap (Fredman et al., Algorithmica 1, 1986) that links the timers
themselves: no entry is allocated, and compiled code compares machine integers. A timer stores its
deadline and leaves its place in the heap alone when the deadline moves later: it is moved when it
surfaces early. Retransmission timers move with every acknowledgement and seldom expire, so this is
several times cheaper than to move them at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

NEVER: Final = 1 << 61
"""A time that does not come: the deadline of a timer that is not set (nanoseconds; 73 years, and
within the integers that a compiled build handles without allocation)."""


class Loop(ABC):
    """A clock, and the timers that wait on it.

    `now_ns` is the time of the event being handled: it does not move while a handler runs, which
    makes handlers reproducible. In real time it is never earlier than the deadline that is being
    served, so that a timer never sees itself as early.
    """

    __slots__ = ("_root", "_sequence", "_stopped", "events", "now_ns")

    def __init__(self, start_ns: int) -> None:
        self.now_ns: i64 = start_ns
        self.events: i64 = 0
        self._root: Timer | None = None
        self._sequence: i64 = 0
        self._stopped: bool = False

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

    def next_deadline_ns(self) -> i64:
        """When the next timer expires, or `NEVER`; moves timers that surfaced early."""
        timer = self._root
        while timer is not None:
            if timer._order == timer._place_order:
                return timer._place_ns
            self._take_root(timer)
            if timer.deadline_ns != NEVER:
                self._insert(timer)
            timer = self._root
        return NEVER

    def _expire_next(self) -> None:
        """Expire the timer on top of the heap; `next_deadline_ns` has just tidied the heap."""
        timer = self._root
        assert timer is not None
        self._take_root(timer)
        timer.deadline_ns = NEVER
        timer._order = -1
        self.events += 1
        timer.expire()

    def _insert(self, timer: Timer) -> None:
        """Put a timer that is not in the heap where its deadline and its turn belong."""
        timer._place_ns = timer.deadline_ns
        timer._place_order = timer._order
        timer._in_heap = True
        root = self._root
        self._root = timer if root is None else _meld(root, timer)

    def _take_root(self, root: Timer) -> None:
        """Take the first timer out and join its children: in pairs, then from the last back."""
        root._in_heap = False
        child = root._child
        root._child = None
        paired: Timer | None = None
        while child is not None:
            second = child._next
            if second is None:
                child._next = paired
                paired = child
                break
            following = second._next
            child._next = None
            second._next = None
            first = _meld(child, second)
            first._next = paired
            paired = first
            child = following
        if paired is not None:
            rest = paired._next
            paired._next = None
            while rest is not None:
                following = rest._next
                rest._next = None
                paired = _meld(paired, rest)
                rest = following
            paired._before = None
        self._root = paired

    def _move_up(self, timer: Timer) -> None:
        """Move a timer in the heap whose deadline is now earlier than its place."""
        timer._place_ns = timer.deadline_ns
        timer._place_order = timer._order
        before = timer._before
        if before is None:
            return  # it was the first already
        following = timer._next
        if before._child is timer:
            before._child = following
        else:
            before._next = following
        if following is not None:
            following._before = before
        timer._next = None
        timer._before = None
        root = self._root
        assert root is not None
        self._root = _meld(root, timer)


class Timer(ABC):
    """Something that wants to be woken at one time; subclasses say what then happens."""

    __slots__ = (
        "_before",
        "_child",
        "_in_heap",
        "_next",
        "_order",
        "_place_ns",
        "_place_order",
        "deadline_ns",
        "loop",
    )

    def __init__(self, loop: Loop) -> None:
        self.loop: Loop = loop
        self.deadline_ns: i64 = NEVER
        self._order: i64 = -1  # its turn among timers of the same deadline
        self._in_heap: bool = False
        self._place_ns: i64 = 0  # the deadline and the turn by which the heap has placed it
        self._place_order: i64 = 0
        self._child: Timer | None = None  # its first child in the heap
        self._next: Timer | None = None  # its parent's next child
        self._before: Timer | None = None  # its parent's child before it; of the first, the parent

    @abstractmethod
    def expire(self) -> None:
        """The deadline has come; the timer is unset and may be set again."""

    def set(self, deadline_ns: i64) -> None:
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
        self._order = loop._sequence
        loop._sequence += 1
        if not self._in_heap:
            loop._insert(self)
        elif deadline_ns < self._place_ns:
            loop._move_up(self)

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


def _meld(left: Timer, right: Timer) -> Timer:
    """Make the later of two heaps the first child of the earlier, and return that one."""
    if right._place_ns < left._place_ns or (
        right._place_ns == left._place_ns and right._place_order < left._place_order
    ):
        left, right = right, left
    child = left._child
    right._next = child
    right._before = left
    if child is not None:
        child._before = right
    left._child = right
    return left

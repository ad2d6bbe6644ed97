"""Real time: the same timers on the monotonic clock, and file descriptors beside them."""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from mptcplab.loop.timerfd import TimerFd
from mptcplab.loop.timers import NEVER, Loop

_READABLE: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_EVENTS_PER_WAIT: Final = 64


class RealTimeLoop(Loop):
    """Timers on the monotonic clock and callbacks for readable file descriptors.

    `now_ns` is the later of the clock and the deadline being served. Close it after use.
    """

    __slots__ = ("_armed_ns", "_epoll", "_readers", "_timer")

    def __init__(self) -> None:
        super().__init__(monotonic_ns())
        self._readers: dict[int, Callable[[], None]] = {}
        self._timer = TimerFd()
        self._armed_ns = NEVER
        self._epoll = select.epoll()
        self._epoll.register(self._timer.fd, select.EPOLLIN | select.EPOLLET)

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever `fd` is readable or hung up."""
        self._readers[fd] = callback
        self._epoll.register(fd, _READABLE)

    def remove_reader(self, fd: int) -> None:
        """Watch `fd` no more."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def run(self, until_ns: int = NEVER) -> None:
        """Handle events until `until_ns` of the monotonic clock, or until `stop`.

        Returns as well when no timer is set and no descriptor is watched.
        """
        self._stopped = False
        while not self._stopped:
            deadline_ns = self.next_deadline_ns()
            clock_ns = monotonic_ns()
            if deadline_ns <= clock_ns and deadline_ns <= until_ns:
                self._serve(deadline_ns, clock_ns)
                self._poll(0)
                continue
            self.now_ns = max(self.now_ns, clock_ns)
            if clock_ns >= until_ns:
                return
            if deadline_ns == NEVER and until_ns == NEVER and not self._readers:
                return
            self._arm(min(deadline_ns, until_ns))
            self._poll(-1)

    def close(self) -> None:
        """Give the descriptors back."""
        self._epoll.close()
        self._timer.close()

    def _serve(self, deadline_ns: int, clock_ns: int) -> None:
        """Expire all timers that are due by `clock_ns`."""
        while deadline_ns <= clock_ns and not self._stopped:
            self.now_ns = max(self.now_ns, clock_ns)
            self._expire_next()
            deadline_ns = self.next_deadline_ns()

    def _arm(self, deadline_ns: int) -> None:
        if deadline_ns == self._armed_ns:
            return
        self._armed_ns = deadline_ns
        if deadline_ns == NEVER:
            self._timer.clear()
        else:
            self._timer.arm(deadline_ns)

    def _poll(self, timeout: int) -> None:
        """Wait for descriptors (-1: until the timer goes off; 0: not at all) and call back."""
        timer_fd = self._timer.fd
        for fd, _ in self._epoll.poll(timeout, _EVENTS_PER_WAIT):
            if fd == timer_fd:
                self._armed_ns = NEVER
                continue
            callback = self._readers.get(fd)
            if callback is not None and not self._stopped:
                self.now_ns = max(self.now_ns, monotonic_ns())
                callback()

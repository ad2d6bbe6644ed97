"""Linux timerfd: a wake-up with nanosecond deadlines.

`epoll_wait` rounds its timeout up to a millisecond; a timerfd watched by the same epoll wakes
within some tens of microseconds. Python has `os.timerfd_create` from 3.13 on; we support 3.11.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC
_TFD_TIMER_ABSTIME: Final = 1
_SECOND_NS: Final = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class TimerFd:
    """A one-shot alarm on the monotonic clock, readable when it has gone off.

    Raises `OSError` when the kernel refuses one.
    """

    __slots__ = ("_address", "_set", "_spec", "_value", "fd")

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"timerfd_create: {os.strerror(error)}")
        self.fd: int = fd
        self._set = libc.timerfd_settime
        self._spec = _Itimerspec()
        self._value = self._spec.it_value
        self._address = ctypes.byref(self._spec)

    def arm(self, deadline_ns: int) -> None:
        """Go off at this time of the monotonic clock, instead of the time set before."""
        value = self._value
        value.tv_sec, value.tv_nsec = divmod(max(deadline_ns, 1), _SECOND_NS)
        self._set(self.fd, _TFD_TIMER_ABSTIME, self._address, None)

    def clear(self) -> None:
        """Do not go off."""
        self._value.tv_sec = self._value.tv_nsec = 0
        self._set(self.fd, 0, self._address, None)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

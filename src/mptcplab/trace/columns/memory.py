"""How the C library deals with memory that numpy gives back."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # mallopt(3)
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 1 << 29


def keep_freed_memory() -> None:
    """Keep freed memory in this process, for the next batch: its pages need not be made anew.

    Reading millions of packets, the kernel would otherwise spend a quarter of the time on that.
    """
    with suppress(AttributeError, OSError):  # the C library is not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)

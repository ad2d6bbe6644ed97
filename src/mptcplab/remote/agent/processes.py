"""What the agent's own processes have in common."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def die_with_parent() -> None:
    """Let the kernel kill this process when the agent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def close_all_but(*descriptors: int) -> None:
    """Close all descriptors but standard input, output, error and these."""
    for path in list(Path("/proc/self/fd").iterdir()):
        number = int(path.name)
        if number > 2 and number not in descriptors:
            with contextlib.suppress(OSError):
                os.close(number)

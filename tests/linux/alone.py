"""Tests that look at all of something that there is on this kernel, one process at a time."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_with(what: str) -> Iterator[None]:
    """Wait until no other process of the tests is in here with the same ``what``."""
    with Path(tempfile.gettempdir(), f"mptcplab-tests-{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

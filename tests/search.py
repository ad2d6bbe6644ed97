"""How many cases a property is tried with, in the profile that is loaded (see ``conftest.py``)."""

from __future__ import annotations

import os

from hypothesis import settings

SEARCH_FACTOR = int(os.environ.get("MPTCPLAB_SEARCH_FACTOR", "10"))
"""How many times more cases a search tries."""


def cases(number: int) -> int:
    """Return ``number``, or that many times more in a search."""
    return number if settings().derandomize else number * SEARCH_FACTOR

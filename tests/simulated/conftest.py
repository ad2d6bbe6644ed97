"""Whole simulations take many times longer uncompiled: slow ones are left to the compiled build.

Snapshots and properties, which run on both builds, show that both give the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests of this folder as ``compiled``."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("slow"):
            item.add_marker("compiled")

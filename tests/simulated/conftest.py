"""Whole simulations take many times longer uncompiled: they are left to the compiled build.

Snapshots and properties, which run on both builds, show that both give the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before those that are asked for are chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder as ``compiled``."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("compiled")

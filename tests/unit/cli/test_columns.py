"""Rows of cells as aligned text."""

from __future__ import annotations

from mptcplab.cli.columns import columns


def test_columns_align() -> None:
    assert columns([["a", "10"], ["long", "5"]]) == "  a     10\n  long   5"

"""Rows of cells as aligned text."""

from __future__ import annotations

from mptcplab.cli.columns import columns


def test_columns_align() -> None:
    assert columns([["低", "1"], ["abc", "2"]]) == "  低   1\n  abc  2"  # two columns wide
    assert columns([["a", "10"], ["long", "5"]]) == "  a     10\n  long   5"

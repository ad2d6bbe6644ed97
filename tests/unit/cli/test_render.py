"""A run as text."""

from __future__ import annotations

from mptcplab.cli.render import columns


def test_columns_align() -> None:
    assert columns([["a", "10"], ["long", "5"]]) == "  a     10\n  long   5"

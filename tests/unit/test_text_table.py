"""Rows of cells as aligned text."""

from __future__ import annotations

import pytest

from mptcplab.text_table import columns


def test_columns_align() -> None:
    assert columns([["低", "1"], ["abc", "2"]]) == "  低   1\n  abc  2"  # two columns wide
    assert columns([["a", "10"], ["long", "5"]]) == "  a     10\n  long   5"


ROWS = [
    ["flow", "protocol", "goodput", "what it was"],
    ["upload", "mptcp", "25.36 Mb/s", "every byte of it arrived"],
    ["a-second-one", "tcp", "1.2 Mb/s", "not checked"],
]


@pytest.mark.parametrize("width", [200, 60, 50, 45])
def test_a_table_is_no_wider_than_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = columns(ROWS, left=2)
    assert max(map(len, text.split("\n"))) <= width
    assert text.split() == columns(ROWS, left=2, fitted=False).split() or width < 60
    for row in ROWS:
        for word in " ".join(row).split():
            assert word in text
    assert text.split("\n")[0].split()[:3] == ["flow", "protocol", "goodput"]


def test_rows_are_lists_where_no_table_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert columns(ROWS, left=2).split("\n")[:4] == [
        "  flow upload",
        "    protocol mptcp",
        "    goodput 25.36 Mb/s",
        "    what it was every byte of it arrived",
    ]


def test_a_file_takes_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    first, *_ = columns(ROWS, fitted=False).split("\n")
    assert len(first) > 30

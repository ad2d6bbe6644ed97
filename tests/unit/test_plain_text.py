"""Texts from outside reach a terminal harmless."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcplab.plain_text import plain_values, printable

HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of what a terminal acts on, what reorders or hides text, and what breaks lines."""


@given(st.text())
def test_nothing_harmful_is_left_and_the_rest_is_as_it_was(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(letter) for letter in shown} & HARMFUL
    if not {unicodedata.category(letter) for letter in text} & (HARMFUL | {"Cn", "Co"}):
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),  # C1: the same in one character
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\udcff", r"\udcff"),  # a byte of a file name that is not UTF-8
        ("café, 速度, 10\u00a0Mb/s", "café, 速度, 10\u00a0Mb/s"),
    ],
)
def test_of_each_kind(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_values_of_any_depth() -> None:
    deep: list[object] = ["\x1b"]
    for _ in range(100_000):
        deep = [deep]
    plain_values(deep)
    while isinstance(deep[0], list):
        deep = deep[0]
    assert deep == [r"\x1b"]
    assert plain_values({"a\x1b": ["\x07", {"b": "\x9b"}], "n": 1}) == {
        r"a\x1b": [r"\x07", {"b": r"\x9b"}],
        "n": 1,
    }

"""Numbering keys: the same as a dictionary does, in whatever batches they come."""

from __future__ import annotations

import numpy as np
import pytest

from mptcplab.trace.columns.interning import Interner


@pytest.mark.slow
def test_numbers_agree_with_a_dictionary() -> None:
    rng = np.random.default_rng(7)
    table = Interner(2)
    known: dict[tuple[int, int], int] = {}
    for _ in range(20):
        size = int(rng.integers(1, 20_000))
        words = [rng.integers(0, 120, size).astype(np.uint64) for _ in range(2)]
        keys = list(zip(words[0].tolist(), words[1].tolist(), strict=True))
        for key, number in zip(keys, table.find(words).tolist(), strict=True):
            assert known.setdefault(key, number) == number
    assert table.count == len(known) == len(set(known.values()))


def test_only_marked_rows_bring_new_keys() -> None:
    table = Interner(1)
    words = [np.array([5, 6, 5, 7, 6], dtype=np.uint64)]
    marks = np.array([False, False, True, False, False])
    assert table.find(words, marks).tolist() == [0, -1, 0, -1, -1]
    assert table.find(words, np.zeros(5, dtype=bool)).tolist() == [0, -1, 0, -1, -1]

"""Sorted columns merged into one, each value once."""

from __future__ import annotations

import numpy as np
import pytest

from mptcplab.trace.columns.sorting import merged_once


@pytest.mark.parametrize("seed", range(5))
def test_as_unique_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [np.sort(rng.integers(0, 50, size)) for size in (0, 1, 20, 300)]
    assert merged_once(columns).tolist() == np.unique(np.concatenate(columns)).tolist()


def test_of_nothing() -> None:
    assert merged_once([np.zeros(0, dtype=np.int64)]).size == 0

"""Sorted columns merged into one, each value once; medians and quantiles as numpy's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mptcplab.trace.columns.sorting import distinct, median, merged_once, quantile

CAPTURES = Path(__file__).parents[3] / "captures"


@pytest.mark.parametrize("seed", range(5))
def test_as_unique_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [np.sort(rng.integers(0, 50, size)) for size in (0, 1, 20, 300)]
    assert merged_once(columns).tolist() == np.unique(np.concatenate(columns)).tolist()


def test_of_nothing() -> None:
    assert merged_once([np.zeros(0, dtype=np.int64)]).size == 0


@pytest.mark.parametrize("size", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("kind", ["i8", "u8", "f8"])
def test_as_numpy_has_it(size: int, kind: str) -> None:
    values = np.random.default_rng(size).integers(0, 50, size).astype(kind)
    assert np.array_equal(distinct(values), np.unique(values))
    assert median(values) == np.median(values)
    for share in (0.05, 0.5, 0.9, 0.95):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-12)
    table = np.random.default_rng(size).integers(0, 50, (4, size)).astype(kind)
    assert np.array_equal(median(table), np.median(table, axis=1))


def test_of_nothing_nothing_is_distinct() -> None:
    assert distinct(np.zeros(0, dtype=np.int64)).size == 0


@pytest.mark.parametrize("capture", ["abort", "handover", "addresses"])
def test_inspect_does_without_masked_arrays(capture: str) -> None:
    """They take a tenth of its start-up."""
    code = (
        "import sys; from mptcplab.cli.main import main; "
        f"main(['inspect', {str(CAPTURES / capture)!r} + '.pcap.gz']); "
        "sys.exit('numpy.ma' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

"""What held a connection of a simulated run back, interval by interval."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from tests.limit_cases import TWO_PATHS, Case, finished

from mptcplab.limits.causes import Cause
from mptcplab.limits.runs import cause_intervals, run_limits


@pytest.mark.slow
def test_the_intervals_come_to_the_limits(tmp_path: Path) -> None:
    case = Case("small", TWO_PATHS, ("flows.main.receive_buffer=64KiB",), Cause.RECEIVE_WINDOW)
    run = finished(case, "simulated", tmp_path)
    (diagnosis,) = run_limits(run)
    ((name, intervals),) = cause_intervals(run).items()
    assert name == diagnosis.connection == "main"
    total: Counter[Cause] = Counter()
    for start_ns, end_ns, by_cause in intervals:
        assert sum(by_cause.values()) <= end_ns - start_ns + 1
        total.update(by_cause)
    assert all(one[1] <= other[0] for one, other in pairwise(intervals))
    said = {limit.cause: limit.seconds for limit in diagnosis.limits}
    for cause, duration_ns in total.items():
        assert duration_ns / 1e9 == pytest.approx(said[cause], abs=1e-6)

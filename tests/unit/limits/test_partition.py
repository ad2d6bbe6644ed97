"""The division of a connection's time among causes, against one that looks at every moment."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mptcplab.limits.causes import Cause
from mptcplab.limits.partition import Claim, Span, durations_ns, partition

_SPANS = st.lists(st.tuples(st.integers(-5, 40), st.integers(-5, 40)), max_size=6)


def _claim(cause: Cause, spans: list[tuple[int, int]], kind: str = "") -> Claim:
    times = np.array(spans, dtype=np.int64).reshape(-1, 2)
    return Claim(cause, times[:, 0], times[:, 1], kind)


def test_the_first_claim_holds_and_the_rest_is_unknown() -> None:
    spans = partition(
        0,
        100,
        [_claim(Cause.LINK, [(20, 40)]), _claim(Cause.APPLICATION, [(10, 30), (40, 50)], "idle")],
    )

    assert spans == [
        Span(0, 10, Cause.UNKNOWN, ""),
        Span(10, 20, Cause.APPLICATION, "idle"),
        Span(20, 40, Cause.LINK, ""),
        Span(40, 50, Cause.APPLICATION, "idle"),
        Span(50, 100, Cause.UNKNOWN, ""),
    ]
    assert durations_ns(spans) == {
        (Cause.UNKNOWN, ""): 60,
        (Cause.LINK, ""): 20,
        (Cause.APPLICATION, "idle"): 20,
    }


def test_no_time_has_no_spans() -> None:
    assert partition(5, 5, [_claim(Cause.LINK, [(0, 9)])]) == []


@given(_SPANS, _SPANS, _SPANS)
def test_every_moment_has_the_cause_of_its_first_claim(
    first: list[tuple[int, int]], second: list[tuple[int, int]], third: list[tuple[int, int]]
) -> None:
    claims = [
        _claim(Cause.STALLED, first),
        _claim(Cause.LINK, second),
        _claim(Cause.CPU, third),
    ]
    spans = partition(0, 30, claims)

    assert spans[0].start_ns == 0
    assert spans[-1].end_ns == 30
    assert all(one.end_ns == other.start_ns for one, other in pairwise(spans))
    assert all(one[2:] != other[2:] for one, other in pairwise(spans))
    for moment in range(30):
        expected = next(
            (
                claim.cause
                for claim in claims
                for start, end in zip(claim.starts_ns, claim.ends_ns, strict=True)
                if start <= moment < end
            ),
            Cause.UNKNOWN,
        )
        [cause] = {span.cause for span in spans if span.start_ns <= moment < span.end_ns}
        assert cause is expected

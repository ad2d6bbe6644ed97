"""Draws have the mean that their distribution says, and requests are found in any pieces."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from mptcplab.applications.answering import RequestReader
from mptcplab.applications.distributions import MOST, Distribution, fixed
from mptcplab.applications.exchange import HEADER_BYTES, Exchange, Header


@pytest.mark.parametrize(
    ("distribution", "mean"),
    [
        (fixed(7), 7),
        (Distribution("uniform", 100, 300), 200),
        (Distribution("exponential", 5_000), 5_000),
        (Distribution("pareto", 1_000, 3.0), 1_500),
        (Distribution("lognormal", 1_000, 0.5), 1_133),
        (Distribution("values", values=(10, 10, 40)), 20),
    ],
)
def test_the_mean_is_that_of_many_draws(distribution: Distribution, mean: float) -> None:
    random = Random(1)
    drawn = [distribution.draw(random) for _ in range(20_000)]
    assert distribution.mean == pytest.approx(mean, rel=0.001)
    assert sum(drawn) / len(drawn) == pytest.approx(mean, rel=0.03)


def test_draws_stay_within_bounds() -> None:
    random = Random(1)
    heavy = Distribution("pareto", 1_000, 0.05)
    assert all(1_000 <= heavy.draw(random) <= MOST for _ in range(1_000))
    assert min(Distribution("exponential", 10).draw(random, 24) for _ in range(1_000)) == 24


def test_requests_are_found_whatever_the_pieces() -> None:
    exchanges = [Exchange(number, 0, 24 + 10 * number, 5) for number in range(4)]
    stream = b"".join(each.header + bytes(each.request_bytes - HEADER_BYTES) for each in exchanges)
    for size in (1, 7, 24, 33, len(stream)):
        checked: list[tuple[int, int, int]] = []

        def check(stream: int, position: int, data: memoryview, checked: Any = checked) -> None:
            checked.append((stream, position, len(data)))

        reader = RequestReader(check)
        found = []
        for start in range(0, len(stream), size):
            found += list(reader.feed(memoryview(stream[start : start + size])))
        assert [header.number for header in found] == [0, 1, 2, 3]
        assert sum(length for _, _, length in checked) == len(stream) - 4 * HEADER_BYTES
        assert reader.is_between_requests


def test_what_is_no_request_is_refused() -> None:
    reader = RequestReader(lambda *_: None)
    with pytest.raises(ValueError, match="a request of 3 bytes"):
        list(reader.feed(memoryview(Header(0, 3, 1).to_bytes())))

"""Dividing the time of a connection among causes: each moment belongs to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mptcplab.limits.causes import Cause


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The times in which the evidence shows a cause.

    ``starts_ns`` and ``ends_ns`` are as long as one another; spans may touch and overlap, and those
    that end before they start claim nothing.
    """

    cause: Cause
    starts_ns: NDArray[np.int64]
    ends_ns: NDArray[np.int64]
    kind: str = ""
    """Of what kind, and where; kinds of the same cause are counted apart."""


class Span(NamedTuple):
    """A time that belongs to one cause."""

    start_ns: int
    end_ns: int
    cause: Cause
    kind: str


def partition(start_ns: int, end_ns: int, claims: Sequence[Claim]) -> list[Span]:
    """Divide the time from ``start_ns`` to ``end_ns`` among claims, the first of which come first.

    What nobody claims is `Cause.UNKNOWN`. Neighbours of the same cause and kind are one span; the
    spans are in order, without gaps, and cover the whole time.
    """
    if end_ns <= start_ns:
        return []
    clipped = [
        (np.clip(claim.starts_ns, start_ns, end_ns), np.clip(claim.ends_ns, start_ns, end_ns))
        for claim in claims
    ]
    ends = [np.array([start_ns, end_ns], dtype=np.int64)]
    borders = np.sort(np.concatenate([*ends, *(side for sides in clipped for side in sides)]))
    borders = borders[np.append(True, borders[1:] != borders[:-1])]
    owner = np.full(borders.size - 1, -1, dtype=np.int64)
    for index in range(len(claims) - 1, -1, -1):
        starts, stops = clipped[index]
        valid = stops > starts
        change = np.zeros(borders.size, dtype=np.int64)
        np.add.at(change, np.searchsorted(borders, starts[valid]), 1)
        np.add.at(change, np.searchsorted(borders, stops[valid]), -1)
        owner[np.cumsum(change)[:-1] > 0] = index
    names = [(claim.cause, claim.kind) for claim in claims] + [(Cause.UNKNOWN, "")]
    number = {name: index for index, name in reversed(list(enumerate(names)))}
    same = np.array([number[name] for name in names], dtype=np.int64)[owner]
    firsts = np.flatnonzero(np.diff(same, prepend=-1))
    lasts = np.append(firsts[1:], same.size)
    return [
        Span(int(borders[first]), int(borders[last]), *names[same[first]])
        for first, last in zip(firsts, lasts, strict=True)
    ]


def durations_ns(spans: Sequence[Span]) -> dict[tuple[Cause, str], int]:
    """Return how long each cause and kind held, the longest first."""
    total: dict[tuple[Cause, str], int] = {}
    for span in spans:
        key = (span.cause, span.kind)
        total[key] = total.get(key, 0) + span.end_ns - span.start_ns
    return dict(sorted(total.items(), key=lambda entry: -entry[1]))

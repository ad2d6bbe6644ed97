"""Several capture files as one, in order of time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from mptcplab.trace.columns.fields import PADDING
from mptcplab.trace.files.batch import BATCH_PACKETS, Batch


class Part(ABC):
    """A file that is merged with others."""

    first_ns: int | None = None
    """The time of its first packet, None where it has none."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Yield its packets; called once, when they are due."""


def merged(parts: list[Part]) -> Iterator[Batch]:
    """Merge the batches of several files; packets are numbered anew, in the merged order.

    A file that is not in order of time itself keeps its own order, as in mergecap.  Files whose
    times do not overlap are read one after another.
    """
    later = sorted(
        (part for part in parts if part.first_ns is not None), key=lambda part: part.first_ns or 0
    )
    sources: list[Iterator[Batch]] = []
    waiting: list[Batch] = []
    number = 1
    while waiting or later:
        # Nothing earlier can follow up to the time that every open file has been read to.
        until = min((int(batch.time_ns[-1]) for batch in waiting), default=None)
        while later and (until is None or (later[0].first_ns or 0) <= until):
            source = later.pop(0).batches()
            batch = next(source, None)
            if batch is None:
                continue  # the file has changed since it was looked at
            sources.append(source)
            waiting.append(batch)
            last = int(batch.time_ns[-1])
            until = last if until is None else min(until, last)
        pieces = []
        for k in range(len(waiting) - 1, -1, -1):
            batch = waiting[k]
            count = len(batch)
            if until is not None and int(batch.time_ns[-1]) > until:
                count = int(np.argmax(batch.time_ns > until))
            if count:
                pieces.append(batch.take(slice(0, count)))
            if count < len(batch):
                waiting[k] = batch.take(slice(count, None))
                continue
            following = next(sources[k], None)
            if following is None:
                del waiting[k], sources[k]
            else:
                waiting[k] = following
        pieces.sort(key=lambda piece: int(piece.source[0]))
        for part in _joined(pieces):
            part.number = np.arange(number, number + len(part), dtype=np.int64)
            number += len(part)
            yield part


def _joined(pieces: list[Batch]) -> Iterator[Batch]:
    """Put pieces that cover the same stretch of time into one order."""
    if len(pieces) < 2:
        yield from pieces
        return
    shift = 0
    moved = []
    for piece in pieces:
        low = int(piece.offset.min())
        high = int((piece.offset + piece.captured).max()) + PADDING
        data = piece.data[low:high]
        moved.append((data, piece.offset - low + shift))
        shift += data.size
    data = np.concatenate([data for data, _ in moved])
    whole = Batch(
        data,
        np.concatenate([offset for _, offset in moved]),
        *(
            np.concatenate([getattr(piece, name) for piece in pieces])
            for name in ("captured", "original", "time_ns", "link_type", "number", "source")
        ),
    )
    order = np.argsort(whole.time_ns, kind="stable")
    for first in range(0, len(whole), BATCH_PACKETS):
        yield whole.take(order[first : first + BATCH_PACKETS])

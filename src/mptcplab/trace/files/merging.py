"""Several capture files as one, in order of time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mptcplab.trace.columns.fields import PADDING
from mptcplab.trace.files.batch import BATCH_PACKETS, Batch


def merged(sources: list[Iterator[Batch]]) -> Iterator[Batch]:
    """Merge the batches of several files; packets are numbered anew, in the merged order.

    A file that is not in order of time itself keeps its own order, as in mergecap.
    """
    waiting: list[Batch | None] = [next(source, None) for source in sources]
    number = 1
    while any(batch is not None for batch in waiting):
        present = [batch for batch in waiting if batch is not None]
        # Nothing earlier can follow up to the time that every file has been read to.
        until = min(int(batch.time_ns[-1]) for batch in present)
        parts = []
        for k, batch in enumerate(waiting):
            if batch is None:
                continue
            count = len(batch)
            if int(batch.time_ns[-1]) > until:
                later = np.flatnonzero(batch.time_ns > until)
                count = int(later[0])
            if count:
                parts.append(batch.take(slice(0, count)))
            rest = batch.take(slice(count, None))
            waiting[k] = rest if len(rest) else next(sources[k], None)
        for part in _joined(parts):
            part.number = np.arange(number, number + len(part), dtype=np.int64)
            number += len(part)
            yield part


def _joined(parts: list[Batch]) -> Iterator[Batch]:
    """Put parts that cover the same stretch of time into one order."""
    shift = 0
    moved = []
    for part in parts:
        low = int(part.offset.min())
        high = int((part.offset + part.captured).max()) + PADDING
        data = part.data[low:high]
        moved.append((data, part.offset - low + shift))
        shift += data.size
    data = np.concatenate([data for data, _ in moved])
    whole = Batch(
        data,
        np.concatenate([offset for _, offset in moved]),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("captured", "original", "time_ns", "link_type", "number", "source")
        ),
    )
    order = np.argsort(whole.time_ns, kind="stable")
    for first in range(0, len(whole), BATCH_PACKETS):
        yield whole.take(order[first : first + BATCH_PACKETS])

"""The segments of captures in order: those of long files come from a process of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mptcplab.trace.decode.segments import Decoder, Segments
from mptcplab.trace.files.batch import Damage, Span
from mptcplab.trace.files.capture import Progress
from mptcplab.trace.files.opening import open_batches, stored_bytes
from mptcplab.trace.follow.placing import Placed, Placer

_LONG_BYTES: Final = 16 << 20
"""Files that are shorter than this together are decoded here: a process would not pay."""


def decoded(
    paths: list[Path],
    decoder: Decoder,
    placer: Placer,
    damage: list[Damage],
    progress: Progress | None = None,
) -> Iterator[tuple[Span, Segments, Placed | None]]:
    """Yield the batches of one file, or of several in order of time, with their segments.

    What is malformed goes to ``decoder``, flows go to ``placer``, damage of the files to
    ``damage``; of long files the flows are there when all batches are.  Raises
    ``CaptureError`` for a file that is not a capture.
    """
    if stored_bytes(paths) >= _LONG_BYTES and _may_fork():
        from mptcplab.trace.follow.decoding_process import DecodingProcess

        yield from DecodingProcess(paths, decoder, placer, damage, progress).batches()
        return
    for batch in open_batches(paths, damage, progress):
        segments = decoder.decode(batch)
        yield batch.span(), segments, placer.place(segments)


def _may_fork() -> bool:
    """Tell whether a process would have a core of its own, and can be made without harm."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return cores > 1 and hasattr(os, "fork") and threading.active_count() == 1

"""When Python's cyclic collector looks, where simulations run: seldom, and at little.

Nothing that a simulation makes for its packets is part of a cycle, and the modules that it has
loaded are some hundred thousand objects: to go through them takes longer than a short run does.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_COLLECT_EVERY = 1_000_000
"""Objects more than before the last collection that start another one."""


class _Collector:
    """What was decided for this process."""

    has_kept = False
    """Whether what is loaded is frozen, as ``keep_loaded`` leaves it."""


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Collect, then leave all that there is alone, and collect what comes only when it is much."""
    gc.collect()
    has_kept = _Collector.has_kept
    if not has_kept:
        gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(_COLLECT_EVERY)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if not has_kept:
            gc.unfreeze()


def keep_loaded() -> None:
    """Have the collector pass over what there is now, for a process that makes many runs."""
    if not _Collector.has_kept:
        gc.collect()
        gc.freeze()
        _Collector.has_kept = True


def release_loaded() -> None:
    """Have the collector look at everything again, where a process goes on with something else."""
    if _Collector.has_kept:
        gc.unfreeze()
        _Collector.has_kept = False

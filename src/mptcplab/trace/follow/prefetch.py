"""Prefetching: one step of a chain in a thread of its own, while the next step runs.

The steps of the analysis are numpy operations over whole batches, which release the interpreter's
lock: one core reads and decodes the next batch while another follows the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final, TypeVar

T = TypeVar("T")

_DEPTH: Final = 2
"""Most results that wait: a bound on memory."""
_LOOK_S: Final = 0.1


class _End:
    """The last thing in the queue: the source ended, or raised."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(source: Iterator[T]) -> Iterator[T]:
    """Yield what ``source`` yields, which runs ahead in another thread; raises what it raises."""
    queue: Queue[T | _End] = Queue(_DEPTH)
    abandoned = Event()

    def put(item: T | _End) -> bool:
        while not abandoned.is_set():
            try:
                queue.put(item, timeout=_LOOK_S)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(item):
                    return
        except BaseException as error:
            put(_End(error))
        else:
            put(_End(None))

    thread = Thread(target=work, name="trace-ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = queue.get(timeout=_LOOK_S)  # with a timeout, an interrupt gets through
            except Empty:
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        abandoned.set()
        thread.join()

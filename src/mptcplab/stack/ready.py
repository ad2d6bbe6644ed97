"""Who may have something to send, and whose timer is due next.

A :class:`Node` marks itself when something happened to it. :class:`ReadyQueue` hands out marked
nodes in the order in which they were marked, and keeps a heap of wake-up times.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

NEVER_NS: Final = 1 << 61
"""A deadline that does not come."""


class Node:
    """Something with output and timers, which a subclass gives ``next_deadline_ns``.

    No ABC: each instance of a compiled one has a dictionary, and connections are asked too often.
    """

    __slots__ = ("_next_pending", "_next_unsure", "_pending", "_queue", "_unsure", "_wake_ns")

    def __init__(self, queue: ReadyQueue) -> None:
        self._queue: ReadyQueue = queue
        self._pending: bool = False
        self._next_pending: Node | None = None
        self._unsure: bool = False
        """Its timers may have changed since the heap was looked after."""
        self._next_unsure: Node | None = None
        self._wake_ns: i64 = NEVER_NS
        """The time of its entry in the heap that counts."""

    def next_deadline_ns(self) -> i64:
        """Return the earliest of its timers; ``NEVER_NS`` for none."""
        raise NotImplementedError

    def mark(self) -> None:
        """Note that it may have something to send, and that its timers may have changed."""
        self._queue.mark(self)

    def cancel(self) -> None:
        """Have it woken no more: what it still has in the heap does not count."""
        self._wake_ns = NEVER_NS


class ReadyQueue:
    """Marked nodes in order, and a heap of wake-up times.

    The heap holds a node's entry until its time, though its timers move later with every
    acknowledgment. A node may stand there several times: only the entry that agrees with its own
    wake-up time counts.
    """

    __slots__ = ("_count", "_first", "_heap", "_last", "_unsure", "_wake_ns")

    def __init__(self) -> None:
        self._first: Node | None = None
        self._last: Node | None = None
        self._unsure: Node | None = None
        self._heap: list[tuple[int, int, Node]] = []
        self._count: int = 0
        self._wake_ns: i64 = NEVER_NS
        """When the first entry is due."""

    def mark(self, node: Node) -> None:
        """Put a node at the end of the queue, if it is not in it; look at its timers again."""
        if not node._pending:
            node._pending = True
            last = self._last
            if self._first is None or last is None:
                self._first = node
            else:
                last._next_pending = node
            self._last = node
        if not node._unsure:
            node._unsure = True
            node._next_unsure = self._unsure
            self._unsure = node

    def first(self) -> Node | None:
        """Return the node that is next to send; its timers are looked at again afterwards."""
        node = self._first
        if node is not None and not node._unsure:
            node._unsure = True
            node._next_unsure = self._unsure
            self._unsure = node
        return node

    def remove_first(self) -> None:
        """Take out the node that ``first`` returned: it has nothing more to send."""
        node = self._first
        if node is not None:
            self._first = node._next_pending
            node._next_pending = None
            node._pending = False

    def take_due(self, now_ns: i64) -> Node | None:
        """Return a node whose time has come, or ``None``; call until it is."""
        heap = self._heap
        while heap and heap[0][0] <= now_ns:
            deadline_ns, _, node = heappop(heap)
            if node._wake_ns == deadline_ns:
                node._wake_ns = NEVER_NS
                return node
        self._wake_ns = heap[0][0] if heap else NEVER_NS
        return None

    def refresh(self) -> None:
        """Look at the timers of the nodes to which something happened."""
        node = self._unsure
        while node is not None:
            node._unsure = False
            self._note_deadline(node)
            following = node._next_unsure
            node._next_unsure = None
            node = following
        self._unsure = None

    def next_wake_ns(self) -> i64:
        """Return a time not later than ``next_deadline_ns`` does; ``NEVER_NS`` for none.

        It does not follow timers that have moved later: a loop that is woken then may find nothing
        due, and has little to do until then.
        """
        self.refresh()
        return self._wake_ns

    def next_deadline_ns(self) -> i64:
        """Return when the next timer is due; ``NEVER_NS`` for none."""
        self.refresh()
        heap = self._heap
        while heap:
            wake_ns, _, node = heap[0]
            if node._wake_ns == wake_ns and node.next_deadline_ns() == wake_ns:
                self._wake_ns = wake_ns
                return wake_ns
            heappop(heap)
            if node._wake_ns == wake_ns:
                node._wake_ns = NEVER_NS
                self._note_deadline(node)
        self._wake_ns = NEVER_NS
        return NEVER_NS

    def _note_deadline(self, node: Node) -> None:
        """Put a node into the heap if its entry there is too late."""
        deadline_ns = node.next_deadline_ns()
        if deadline_ns < node._wake_ns:
            node._wake_ns = deadline_ns
            self._count += 1
            heappush(self._heap, (deadline_ns, self._count, node))
            if deadline_ns < self._wake_ns:
                self._wake_ns = deadline_ns

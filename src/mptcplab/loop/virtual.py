"""Virtual time: the clock jumps from event to event, as fast as the machine can handle them."""

from __future__ import annotations

from mptcplab.loop.timers import NEVER, Loop


class VirtualLoop(Loop):
    """A loop whose clock shows the time of the event at hand."""

    __slots__ = ()

    def __init__(self, start_ns: int = 0) -> None:
        super().__init__(start_ns)

    def run(self, until_ns: int = NEVER) -> None:
        """Handle events up to and including `until_ns`.

        The clock then shows `until_ns`; or, when no event is left and `until_ns` was not given,
        or after `stop`, the time of the last event.
        """
        self._stopped = False
        while not self._stopped:
            time_ns = self.next_deadline_ns()
            if time_ns > until_ns or time_ns == NEVER:
                if until_ns != NEVER and until_ns > self.now_ns:
                    self.now_ns = until_ns
                return
            self.now_ns = time_ns
            self._expire_next()

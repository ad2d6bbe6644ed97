"""The ends of flows' connections, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.traffic import answering, asking, datagrams, receiver, sender
from mptcplab.linux.traffic.conversing import COUNTERS
from mptcplab.linux.traffic.sockets import SocketError
from mptcplab.linux.traffic.stripes import Dispenser
from mptcplab.linux.traffic.worker import Progress, fail
from mptcplab.remote.agent.processes import close_all_but, die_with_parent

_RUN: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "sender": sender.run,
    "receiver": receiver.run,
    "asking": lambda order: asking.Asking(order).run(),
    "answering": lambda order: answering.Answering(order).run(),
    "datagrams-sender": lambda order: datagrams.Sender(order).run(),
    "datagrams-receiver": lambda order: datagrams.Receiver(order).run(),
}
_SLOT_BYTES: Final = 8
_LINE_MOST: Final = 1 << 16


class WorkerEnd:
    """One end of a connection, or of all of a flow: a process that takes orders and gives answers,
    line by line.
    """

    def __init__(self, role: str, order: dict[str, Any], stripes: int | None) -> None:
        """Start it; its counters are in memory that both map.

        ``stripes`` is the descriptor of a counter that it shares with other senders.
        """
        counters = os.memfd_create("progress", os.MFD_CLOEXEC)
        os.truncate(counters, _SLOT_BYTES * COUNTERS * max(1, len(order.get("sockets", ()))))
        path = f"/proc/self/fd/{counters}"
        kept = [counters]
        order = order | {"progress": path}
        if stripes is not None:
            kept.append(stripes)
            order |= {"stripes": f"/proc/self/fd/{stripes}"}
        orders, self._orders = os.pipe()
        self.answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become(role, order, orders, answers, kept)
        os.close(orders)
        os.close(answers)
        self.progress = Progress(Path(path))
        os.close(counters)
        os.set_blocking(self.answers, False)
        self._text = b""
        self.ended = False

    def order(self, text: str) -> None:
        """Pass an order on; one to a process that has ended is lost."""
        with contextlib.suppress(OSError):
            os.write(self._orders, text.encode() + b"\n")

    def read(self) -> list[dict[str, Any] | None]:
        """Return the answers that have come; the last is None when no more can."""
        answers: list[dict[str, Any] | None] = []
        while True:
            try:
                data = os.read(self.answers, _LINE_MOST)
            except BlockingIOError:
                return answers
            if not data:
                self.ended = True
                return [*answers, None]
            *lines, self._text = (self._text + data).split(b"\n")
            answers += [json.loads(line) for line in lines]

    def counts(self) -> list[int]:
        """Return its counters: what it has sent, or received and checked; of requests and
        messages, what it has written and read on each connection.
        """
        return list(self.progress.slots)

    def close(self) -> None:
        """Kill it and give everything back."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.waitpid(self.pid, 0)
        for descriptor in (self._orders, self.answers):
            os.close(descriptor)
        self.progress.close()


def shared_stripes() -> int:
    """Return a descriptor of the counter that the senders of a striped flow share."""
    counter = os.memfd_create("stripes", os.MFD_CLOEXEC)
    Dispenser.create(Path(f"/proc/self/fd/{counter}"))
    return counter


def _become(role: str, order: dict[str, Any], orders: int, answers: int, kept: list[int]) -> None:
    """Be a worker from now on, with nothing of the agent's but a few descriptors."""
    try:
        die_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(orders, 0)
        os.dup2(answers, 1)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        close_all_but(*kept)
        _RUN[role](order)
    except (SocketError, OSError) as error:
        fail(str(error))
    finally:
        os._exit(0)

"""The process of an emulated link, from the fork to its end."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from time import monotonic_ns, process_time_ns
from typing import Final, NoReturn

from mptcplab.linux.emulator.arrivals import arrival_clock
from mptcplab.linux.emulator.boxed_direction import BoxedDirection
from mptcplab.linux.emulator.boxes import BoxedEnd
from mptcplab.linux.emulator.engine import Direction, Engine
from mptcplab.linux.emulator.frames import classify
from mptcplab.linux.emulator.reading import LinkReading
from mptcplab.middleboxes import describe_box, make_chain
from mptcplab.network.impairments import CapacityTrace
from mptcplab.network.link import channel_model
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.network.parameters import ChannelParameters

_REALTIME_PRIORITY: Final = 10
"""Of SCHED_FIFO: before everything of the default policy, and low among real-time processes."""

_HIGHEST_NICENESS: Final = -20  # sched(7)
_PR_SET_PDEATHSIG: Final = 1  # include/uapi/linux/prctl.h
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 1 << 30

_ONE_PACKET_NS: Final = 1
"""A piece this short holds one packet, which arrives when its own last bit does."""

_RESET_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class EmulatedEnd:
    """One end of a link: whether its device takes several packets in one frame, and what
    middleboxes stand there, all switched off at first.
    """

    trains: bool = True
    boxes: tuple[MiddleboxPlan, ...] = ()


Boxed = tuple[BoxedEnd | None, BoxedEnd | None]
"""The middleboxes at the two ends, where there are any."""


def run_child(
    control: Connection,
    parent: int,
    fds: tuple[int, int],
    parameters: tuple[ChannelParameters, ChannelParameters],
    seed: int,
    piece_ns: int,
    ends: tuple[EmulatedEnd, EmulatedEnd],
    traces: tuple[CapacityTrace, ...],
) -> NoReturn:
    """Carry frames until the control connection says stop or closes. For a forked process only:
    it ends here, and runs nothing that its parent has prepared for its own end.
    """
    status = 1
    try:
        _detach(parent, keep={0, 1, 2, control.fileno(), *fds})
        # small numbers: select takes none above 1,023
        fds = os.dup(fds[0]), os.dup(fds[1])
        control = Connection(os.dup(control.fileno()))
        realtime = _prefer_this_process()
        _keep_memory()
        boxed = _boxed(ends[0], seed), _boxed(ends[1], seed)
        trains = ends[0].trains, ends[1].trains
        directions = _directions(fds, parameters, seed, piece_ns, trains, boxed)
        control.send((realtime, all(way.clock is not None for way in directions)))
        commands = _Commands(control, directions, traces, boxed)
        engine = Engine(directions, control.fileno(), commands.handle)
        engine.run()
        status = 0
    except KeyboardInterrupt:
        pass  # a signal before there is an engine to take it: the parent says that it is gone
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class _Commands:
    """What the parent may ask for."""

    __slots__ = ("_boxed", "_control", "_directions", "_traces")

    def __init__(
        self,
        control: Connection,
        directions: tuple[Direction, Direction],
        traces: tuple[CapacityTrace, ...],
        boxed: Boxed,
    ) -> None:
        self._control = control
        self._directions = directions
        self._traces = traces
        self._boxed = boxed

    def handle(self) -> bool:
        """Answer one command; False when there will be none any more."""
        try:
            command, argument = self._control.recv()
            now_ns = monotonic_ns()
            if command == "configure":
                for direction, (parameters, trace) in zip(self._directions, argument, strict=True):
                    if trace is not None:
                        parameters = replace(parameters, trace=self._traces[trace])
                    if parameters != direction.channel.parameters:
                        direction.channel.configure(parameters, now_ns)
                self._control.send(now_ns)
            elif command == "switch":
                target, enabled = argument
                for end in self._boxed:
                    if end is not None:
                        end.chain.set_enabled(target, enabled)
                self._control.send(now_ns)
            elif command == "boxes":
                self._control.send(
                    tuple(
                        [] if end is None else [describe_box(box) for box in end.chain.boxes]
                        for end in self._boxed
                    )
                )
            else:
                self._control.send(self._reading(now_ns, reset_peak=argument))
        except (EOFError, OSError):
            return False
        return True

    def _reading(self, now_ns: int, *, reset_peak: bool) -> LinkReading:
        forward, backward = (
            direction.reading(now_ns, reset_peak=reset_peak) for direction in self._directions
        )
        return LinkReading(now_ns, forward, backward, process_time_ns(), _wait_ns())


def _directions(
    fds: tuple[int, int],
    parameters: tuple[ChannelParameters, ChannelParameters],
    seed: int,
    piece_ns: int,
    trains: tuple[bool, bool],
    boxed: Boxed,
) -> tuple[Direction, Direction]:
    a_fd, b_fd = fds
    a_trains, b_trains = trains
    now_ns = monotonic_ns()
    forward, backward = (
        channel_model(
            side,
            Random(f"{seed} {way}"),
            now_ns,
            classify,
            piece_ns if in_trains else _ONE_PACKET_NS,
        )
        for side, way, in_trains in zip(
            parameters, ("forward", "backward"), (b_trains, a_trains), strict=True
        )
    )
    clocks = arrival_clock(a_fd), arrival_clock(b_fd)
    if boxed == (None, None):
        return (
            Direction(a_fd, b_fd, forward, clocks[0], in_trains=b_trains),
            Direction(b_fd, a_fd, backward, clocks[1], in_trains=a_trains),
        )
    there = BoxedDirection(a_fd, b_fd, forward, clocks[0], boxed, in_trains=b_trains)
    back = BoxedDirection(b_fd, a_fd, backward, clocks[1], boxed[::-1], in_trains=a_trains)
    there.opposite, back.opposite = back, there
    return there, back


def _boxed(end: EmulatedEnd, seed: int) -> BoxedEnd | None:
    """Return the middleboxes at an end, switched off as yet; None for none."""
    if not end.boxes:
        return None
    return BoxedEnd(make_chain([replace(plan, enabled=False) for plan in end.boxes], seed))


def _detach(parent: int, keep: set[int]) -> None:
    """Die with the parent; leave its signals, and all its descriptors but these, alone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before it was asked to tell
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    for number in _RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                continue  # the descriptor that listed the others


def _prefer_this_process() -> bool:
    """Run before other processes where that is allowed; whether it is.

    Where only real time is refused (a control group without a share of it), take the next best.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_REALTIME_PRIORITY))
    except OSError:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _HIGHEST_NICENESS)
        return False
    return True


def _keep_memory() -> None:
    """Do not collect garbage (there are no cycles), nor give freed frames back to the kernel,
    which would only hand them out again, zeroed, a moment later.
    """
    gc.freeze()
    gc.disable()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _wait_ns() -> int:
    """How long this process was ready and not running (0 where the kernel does not count it)."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1])
    except (OSError, IndexError):
        return 0

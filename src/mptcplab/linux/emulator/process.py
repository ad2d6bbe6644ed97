"""An emulated link's process, seen from the process that started it."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from typing import Any, Final

from mptcplab.linux.emulator.child import EmulatedEnd, run_child
from mptcplab.linux.emulator.reading import LinkReading
from mptcplab.network.channel import PIECE_NS
from mptcplab.network.impairments import CapacityTrace
from mptcplab.network.parameters import ChannelParameters

_ANSWER_TIMEOUT_S: Final = 5.0


class EmulatorError(RuntimeError):
    """The process of an emulated link has died or does not answer."""

    exit_status = 3  # this machine cannot

    def __init__(self, link: str, problem: str) -> None:
        super().__init__(link, problem)
        self.link = link
        self.problem = problem

    def __str__(self) -> str:
        return f"link {self.link}: {self.problem}"


class EmulatedLink:
    """One link between two TAP devices, run by a process of its own.

    The process dies with the thread that started it (`PR_SET_PDEATHSIG`), and when its control
    connection closes; so start links from the thread that stays. It holds copies of the two
    descriptors: close yours, and the devices end with the link.
    """

    def __init__(self, name: str, pid: int, control: Connection) -> None:
        self.name = name
        self.pid = pid
        self.forward = ChannelParameters()
        self.backward = ChannelParameters()
        self._control = control
        self._traces: tuple[CapacityTrace, ...] = ()
        self._able: tuple[bool, bool] | None = None
        self._status: int | None = None

    @classmethod
    def start(
        cls,
        name: str,
        a_fd: int,
        b_fd: int,
        forward: ChannelParameters,
        backward: ChannelParameters,
        *,
        seed: int = 0,
        piece_ns: int = PIECE_NS,
        ends: tuple[EmulatedEnd, EmulatedEnd] = (EmulatedEnd(), EmulatedEnd()),
        traces: tuple[CapacityTrace, ...] = (),
    ) -> EmulatedLink:
        """Fork a process that carries frames between two TAP devices (see `open_tap`).

        `forward` applies from a to b, `backward` from b to a. Loss and jitter are drawn from
        `seed`, of which each direction has its own stream. `ends` says of each device whether
        what it is given may be several packets in one frame, and what middleboxes stand before it,
        all of them off until `switch_box`. `traces` are those that `configure` will be given: they
        may be long, and the process need not be sent what it has. Returns at once: start all links
        of a testbed before you ask any of them something.
        """
        ours, theirs = Pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            fds, sides = (a_fd, b_fd), (forward, backward)
            run_child(theirs, parent, fds, sides, seed, piece_ns, ends, traces)
        theirs.close()
        link = cls(name, pid, ours)
        link.forward, link.backward = forward, backward
        link._traces = traces
        return link

    @property
    def realtime(self) -> bool:
        """Whether the process runs before all ordinary ones (waits until it runs at all).

        Without that privilege, other programs make it late. Raises `EmulatorError`.
        """
        return self._abilities()[0]

    @property
    def exact_arrivals(self) -> bool:
        """Whether a frame's delay begins when it reached the device, not when it was read.

        Without that privilege, the time to wake up adds to the delay, and does not show in the
        lateness. Raises `EmulatorError`.
        """
        return self._abilities()[1]

    def configure(
        self,
        forward: ChannelParameters | None = None,
        backward: ChannelParameters | None = None,
    ) -> int:
        """Change one or both directions in place; see `ChannelModel.configure`.

        Returns when that took effect (ns of the monotonic clock). Raises `EmulatorError`.
        """
        self.forward = forward or self.forward
        self.backward = backward or self.backward
        wanted = [self._without_known_trace(each) for each in (self.forward, self.backward)]
        return int(self._ask("configure", wanted))

    def set_up(self, up: bool) -> int:
        """Plug the cable in or out, in both directions. Returns when (ns, monotonic clock)."""
        return self.configure(replace(self.forward, up=up), replace(self.backward, up=up))

    def switch_box(self, target: str, enabled: bool) -> int:
        """Switch the middleboxes of that target on or off. Returns when (ns, monotonic clock)."""
        return int(self._ask("switch", (target, enabled)))

    def read_boxes(self) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """What the middleboxes at each end have done (`middleboxes.describe_box`).

        Raises `EmulatorError`.
        """
        near, far = self._ask("boxes", None)
        return near, far

    def read(self, *, reset_peak: bool = False) -> LinkReading:
        """Counters, lateness and CPU time of this moment. Raises `EmulatorError`.

        With `reset_peak`, the longest queue and the worst lateness begin anew.
        """
        reading = self._ask("read", reset_peak)
        assert isinstance(reading, LinkReading)
        return reading

    def is_alive(self) -> bool:
        """Whether the process is still there."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
        return self._status is None

    def ending(self, within_s: float = 0.0) -> str:
        """What ended the process, as text; empty where it runs, and does for that long."""
        if self.is_alive():
            pidfd = os.pidfd_open(self.pid)
            try:
                select.select([pidfd], [], [], within_s)
            finally:
                os.close(pidfd)
        if self.is_alive():
            return ""
        code = os.waitstatus_to_exitcode(self._status or 0)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def stop(self) -> None:
        """End the process; does nothing when it has ended."""
        self._control.close()
        if not self.is_alive():
            return
        pidfd = os.pidfd_open(self.pid)
        try:
            ended, _, _ = select.select([pidfd], [], [], _ANSWER_TIMEOUT_S)
            if not ended:
                os.kill(self.pid, signal.SIGKILL)
            _, self._status = os.waitpid(self.pid, 0)
        finally:
            os.close(pidfd)

    def _without_known_trace(
        self, parameters: ChannelParameters
    ) -> tuple[ChannelParameters, int | None]:
        """Return parameters, and the number of their trace where the process has that."""
        for number, trace in enumerate(self._traces):
            if trace is parameters.trace:
                return replace(parameters, trace=None), number
        return parameters, None

    def _abilities(self) -> tuple[bool, bool]:
        if self._able is None:
            realtime, exact = self._receive()
            self._able = bool(realtime), bool(exact)
        return self._able

    def _ask(self, what: str, argument: object) -> Any:
        self._abilities()  # the process's first message: it runs
        try:
            self._control.send((what, argument))
        except OSError as error:
            raise EmulatorError(self.name, "the emulator has ended") from error
        return self._receive()

    def _receive(self) -> Any:
        try:
            if not self._control.poll(_ANSWER_TIMEOUT_S):
                raise EmulatorError(
                    self.name, f"no answer from the emulator in {_ANSWER_TIMEOUT_S:g} s"
                )
            return self._control.recv()
        except (EOFError, OSError) as error:
            raise EmulatorError(self.name, "the emulator has ended") from error

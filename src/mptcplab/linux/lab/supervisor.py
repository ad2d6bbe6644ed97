"""The process that owns a lab: when it dies, of anything, the kernel removes everything.

Three processes: the *caller* (the command line); the *guardian*, its child, in a session of its
own; and the *supervisor*, the guardian's child and the first process of a new PID namespace.  All
that a lab is made of hangs on the supervisor: namespaces are held by its descriptors and processes,
and when the first process of a PID namespace ends, the kernel kills every other one in it.

Who dies, and what follows:

* the caller: the guardian gets SIGKILL (parent-death signal) and its end of the lifeline closes;
* the guardian: the supervisor gets SIGKILL (parent-death signal);
* the supervisor: the kernel ends the PID namespace; the guardian passes on how it ended.

A parent that dies before its child has asked for the parent-death signal is noticed by the
lifeline, a pipe that nobody writes to and that reads as closed from then on.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    mount,
    set_parent_death_signal,
    unshare,
)
from mptcplab.loop.stop_signals import (
    STOP_SIGNALS,
    Stopped,
    on_stop_signal,
    raise_on_stop_signal,
    stop_received,
    stop_signals_held,
)

_FRAME: Final = struct.Struct("=I")
_FAILED_STATUS: Final = 1


class SupervisorDiedError(RuntimeError):
    """The supervisor ended without a result: killed, most likely.  Nothing of the lab is left."""

    exit_status = 1


Send = Callable[[object], None]
"""Sends one picklable message to the caller."""


def run_supervised(
    work: Callable[[Send], Any],
    on_message: Callable[[Any], None] | None = None,
) -> Any:
    """Run ``work`` in a supervisor of its own and return what it returns.

    What ``work`` sends is handed to ``on_message``, in order, in this process.  Stop signals
    (SIGINT, SIGTERM, SIGHUP) are passed on and raise Stopped inside ``work``, which may tidy up and
    still return; a second one kills.  Where ``work`` lets Stopped through, it is raised here.

    An exception of ``work`` is raised here again.  SupervisorDiedError says that the supervisor was
    killed, MachineCannotError that namespaces are not available.
    """
    results_in, results_out = os.pipe()
    lifeline_in, lifeline_out = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    guardian = 0
    try:
        with contextlib.ExitStack() as stack:
            with stop_signals_held():
                guardian = os.fork()
                if guardian == 0:
                    os.close(results_in)
                    os.close(lifeline_out)
                    _guard(lambda: _work_and_answer(work, results_out), lifeline_in, results_out)
                stack.enter_context(_forwarding_stops(guardian))
            os.close(results_out)
            os.close(lifeline_in)
            answer = _collect(results_in, on_message or _ignore)
            _, status = os.waitpid(guardian, 0)
            guardian = 0
    finally:
        os.close(results_in)
        os.close(lifeline_out)
        if guardian:  # something went wrong on this side
            with contextlib.suppress(ProcessLookupError):
                os.kill(guardian, signal.SIGKILL)
            os.waitpid(guardian, 0)
    return _judge(answer, status)


def start_detached(work: Callable[[Send], Any], on_message: Callable[[Any], None]) -> None:
    """Run ``work`` in a supervisor that outlives the caller.

    Returns when ``work`` has sent its first message, which is handed to ``on_message``; an
    exception before that is raised here.  From then on only ``work`` itself, or a signal, ends it.
    Where the caller has died by then, that first message raises BrokenPipeError.
    """
    results_in, results_out = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with stop_signals_held():
        starter = os.fork()
        if starter == 0:
            os.close(results_in)
            if os.fork():
                os._exit(0)
            _detach_from_terminal()
            _guard(lambda: _work_and_answer(work, results_out), None, results_out)
    os.close(results_out)
    os.waitpid(starter, 0)
    first: list[Any] = []
    try:
        answer = _collect(results_in, first.append, only_first=True)
    finally:
        os.close(results_in)
    if first:
        on_message(first[0])
    else:
        _judge(answer, 0)


def _detach_from_terminal() -> None:
    """Let go of the caller's terminal or pipe, which else would stay open as long as the lab."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _ignore(_message: Any) -> None:
    """Do nothing with a message."""


def _collect(
    results: int, on_message: Callable[[Any], None], *, only_first: bool = False
) -> tuple[str, Any] | None:
    """Read messages up to the closing one ("result", "error", "stopped"); None at a bare end."""
    with open(results, "rb", closefd=False) as stream:
        while header := stream.read(_FRAME.size):
            (length,) = _FRAME.unpack(header)
            body = stream.read(length)
            if len(body) < length:
                return None
            kind, value = pickle.loads(body)  # noqa: S301 - from our own child
            if kind != "message":
                return kind, value
            on_message(value)
            if only_first:
                return None
    return None


def _judge(answer: tuple[str, Any] | None, status: int) -> Any:
    if answer is None:
        number = status & 0x7F or max((status >> 8) - 128, 0)
        how = f"killed by {signal.Signals(number).name}" if number else "it ended without a result"
        raise SupervisorDiedError(
            f"the supervisor of this lab died ({how}); the kernel has removed all that it held"
        )
    kind, value = answer
    if kind in ("error", "stopped"):
        raise value
    return value


@contextlib.contextmanager
def _forwarding_stops(guardian: int) -> Any:
    """Pass stop signals on to the guardian; kill it at the second one."""
    seen = 0

    def forward(name: str) -> None:
        nonlocal seen
        seen += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(guardian, signal.Signals[name] if seen == 1 else signal.SIGKILL)

    with on_stop_signal(forward):
        yield


def _guard(run: Callable[[], int], lifeline: int | None, results: int) -> NoReturn:
    """Be the guardian: make the namespaces, fork the supervisor, watch over it, then exit.

    Stop signals are held back when it is called, and until there is a supervisor to pass them to.
    """
    try:
        if lifeline is not None:
            set_parent_death_signal(signal.SIGKILL)
        os.setsid()
        try:
            _enter_namespaces()
            if lifeline is not None:  # a change of credentials clears it (prctl(2))
                set_parent_death_signal(signal.SIGKILL)
        except OSError as error:
            _send_frame(results, "error", MachineCannotError(_why_not(error)))
            os._exit(_FAILED_STATUS)
        guard_in, guard_out = os.pipe()
        supervisor = os.fork()
        if supervisor == 0:
            os.close(guard_out)
            if lifeline is not None:
                os.close(lifeline)
            _supervise(run, guard_in)
        os.close(guard_in)
        os.close(results)
        _watch(supervisor, lifeline)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(_FAILED_STATUS)


def _enter_namespaces() -> None:
    """Unshare what a lab lives in; a user namespace comes first for those who are not root."""
    if os.geteuid() != 0:
        user, group = os.geteuid(), os.getegid()
        unshare(CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {user} 1"),
            ("gid_map", f"0 {group} 1"),
        ):
            Path("/proc/self", name).write_text(text)
    unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
    mount("", "/", "", MS_REC | MS_SLAVE)


def _why_not(error: OSError) -> str:
    text = f"a lab needs namespaces, and this machine does not give them: {error.strerror or error}"
    if os.geteuid() != 0:
        text += (
            "; run as root, or allow unprivileged user namespaces (sysctl "
            "user.max_user_namespaces, kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns)"
        )
    return text


def _watch(supervisor: int, lifeline: int | None) -> NoReturn:
    """Wait for the supervisor, and exit as it did.

    The first stop signal is passed on (a terminal's may have come to the caller as well, which
    passes it on too); when the caller is gone, the supervisor is killed.
    """
    passed_on: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if not passed_on:
            passed_on.append(number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, number)

    for number in STOP_SIGNALS:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    handle = os.pidfd_open(supervisor)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    if lifeline is not None:
        poll.register(lifeline, select.POLLHUP)
    while not any(descriptor == handle for descriptor, _ in poll.poll()):
        os.kill(supervisor, signal.SIGKILL)
        if lifeline is not None:
            poll.unregister(lifeline)
    _, status = os.waitpid(supervisor, 0)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _supervise(run: Callable[[], int], guard: int) -> NoReturn:
    """Be the supervisor: first process of the PID namespace, dead at once if the guardian dies."""
    status = _FAILED_STATUS
    try:
        set_parent_death_signal(signal.SIGKILL)
        if select.select([guard], [], [], 0)[0]:
            os._exit(status)  # the guardian died before it could be our parent-death signal
        raise_on_stop_signal()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # a container may hide parts of /proc and refuse
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        status = run()
    except Stopped as stop:
        status = 128 + stop.number
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _work_and_answer(work: Callable[[Send], Any], results: int) -> int:
    """Run ``work``, send what it returns or raises, return the exit status."""
    os.set_inheritable(results, False)
    answer: tuple[str, object]
    try:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            answer = ("result", work(lambda message: _send_frame(results, "message", message)))
        finally:  # from here on it is too late to stop: the answer goes out whole
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        status = 0
    except Stopped as stop:
        answer, status = ("stopped", stop), 128 + stop.number
    except Exception as error:
        error.add_note("in the supervisor:\n" + traceback.format_exc())
        answer, status = ("error", error), _FAILED_STATUS
        number = stop_received()
        if number is not None and not hasattr(error, "exit_status"):
            # extension modules make other errors of what interrupts them
            answer, status = ("stopped", Stopped(number)), 128 + number
    with contextlib.suppress(BrokenPipeError):
        _send_frame(results, *answer)
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _send_frame(results: int, kind: str, value: object) -> None:
    try:
        body = pickle.dumps((kind, value))
    except Exception:
        if kind != "error":
            raise
        body = pickle.dumps((kind, RuntimeError(f"{type(value).__name__}: {value}")))
    data = memoryview(_FRAME.pack(len(body)) + body)
    while data:
        data = data[os.write(results, data) :]

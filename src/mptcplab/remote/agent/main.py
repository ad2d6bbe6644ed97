"""The agent: obeys a controller over standard input and output, and undoes everything at the end.

The end is what comes first of: the controller's word, the end of its line, a stop signal, or
``SILENCE_S`` without a word from it.  The guardian is there for all other ends.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from mptcplab.linux.probes.mib import read_counters
from mptcplab.linux.traffic.ports import is_bound
from mptcplab.remote.agent import interfaces
from mptcplab.remote.agent.capturing import HostCapture
from mptcplab.remote.agent.facts import facts
from mptcplab.remote.agent.guardian import Guardian
from mptcplab.remote.agent.journal import (
    Command,
    CommandError,
    Journal,
    execute,
    implicit_endpoints,
    take_lock,
)
from mptcplab.remote.agent.programs import HostProgram
from mptcplab.remote.agent.sampling import HostSampler
from mptcplab.remote.agent.workers import WorkerEnd, shared_stripes
from mptcplab.remote.frames import MARK, FrameError, FrameReader, Message, encode

SILENCE_S: Final = 10
_CHUNK_BYTES: Final = 1 << 20
_LOOK_EVERY_NS: Final = 20_000_000
_CAPTURES_LOOK_S: Final = 1.0


class LeaveError(Exception):
    """The controller has said that it is done; ``undo`` says whether what stands is to go."""

    def __init__(self, undo: bool) -> None:
        super().__init__()
        self.undo = undo


class Agent:
    """What the controller's messages do; each answer carries the number of its question."""

    def __init__(self, ssh_connection: str, lock: Any) -> None:
        self._ssh_connection = ssh_connection
        self._lock = lock
        self.journal = Journal()
        self.guardian: Guardian | None = None
        self.sampler: HostSampler | None = None
        self.workers: dict[int, WorkerEnd] = {}
        self.captures: dict[str, HostCapture] = {}
        self.programs: dict[int, HostProgram] = {}
        self._mark = ""  # of all programs; empty before the first
        self._stripes: dict[str, int] = {}
        """The counters that senders share, by what the controller calls them."""
        self._down: set[str] = set()
        """The interfaces that were set down and are not whole again."""
        self._restoring: dict[str, list[Command]] = {}
        """What brings an interface back, as the journal has it."""
        self.interval_ns = self.next_ns = 0
        self._look_ns = 0  # when to look at senders' sockets again; 0: not at all
        self._due: list[tuple[int, Message]] = []
        self.heard_s = time.monotonic()
        self.leaving: LeaveError | None = None

    def answer(self, message: Message) -> Message:
        """Return the answer to one message, what went wrong included."""
        perform: Callable[[Message], Message | None] | None
        perform = getattr(self, f"on_{message.get('do')}", None)
        answer: Message = {"answer": message.get("id")}
        if perform is None:
            return answer | {"error": f"this agent cannot {message.get('do')}"}
        try:
            return answer | (perform(message) or {})
        except CommandError as error:
            return answer | {"error": str(error)}
        except (OSError, KeyError, ValueError, TypeError) as error:
            return answer | {"error": f"{message.get('do')}: {type(error).__name__}: {error}"}

    # -- what there is

    def on_clock(self, _message: Message) -> Message:
        """Tell both clocks (ns)."""
        return {"monotonic_ns": time.monotonic_ns(), "unix_ns": time.time_ns()}

    def on_facts(self, message: Message) -> Message:
        """Tell what a plan needs to know."""
        told = facts(
            message["sysctls"],
            message.get("programs", []),
            self._ssh_connection,
            netem=bool(message.get("netem")),
        )
        return {"facts": told}

    def on_counters(self, _message: Message) -> Message:
        """Tell the MIB counters."""
        return {"counters": read_counters()}

    # -- changes

    def on_begin(self, message: Message) -> Message:
        """Begin a journal; what an earlier agent has left is undone first."""
        self._check_may_change()
        header, undoings = self.journal.read()
        problems = [] if header is None else self.journal.undo()
        self.guardian = self.guardian or Guardian(self._lock.fileno())
        self.journal.begin({"who": message["who"], "since": message["since"]})
        self._down.clear()
        self._restoring.clear()
        self._mark = ""
        known = [str(endpoint.identifier) for endpoint in implicit_endpoints()]
        self.journal.note([["forget-implicit", *known]])
        return {"undone": len(undoings), "problems": problems[:20]}

    def on_undo(self, _message: Message) -> Message:
        """Undo what a journal says."""
        self._check_may_change()
        _, undoings = self.journal.read()
        return {"undone": len(undoings), "problems": self.journal.undo()[:20]}

    def on_change(self, message: Message) -> Message:
        """Carry out steps, one after the other; the first that fails ends it.

        A step is a command with its undoing, or an interface to set down or up.
        """
        if self.guardian is None:
            raise CommandError("changes come after begin")
        for step in message["steps"]:
            if "down" in step:
                self._set_down(step["down"])
            elif "up" in step:
                self._set_up(step["up"])
            else:
                self.journal.note(step["undo"])
                execute(step["command"])
        return {"monotonic_ns": time.monotonic_ns()}

    def on_stand(self, message: Message) -> Message:
        """Leave everything as it is when this agent ends, however that comes about."""
        if self.guardian is None:
            raise CommandError("there is nothing to stand before begin")
        self.journal.keep_standing(message["who"])
        self.guardian.dismiss()
        self.guardian = None
        self.leaving = LeaveError(undo=False)
        return {}

    def on_leave(self, _message: Message) -> Message:
        """Undo everything and end."""
        self.leaving = LeaveError(undo=True)
        return {}

    def _check_may_change(self) -> None:
        if self._lock is None:
            raise CommandError("this agent only watches")

    def _set_down(self, interface: str) -> None:
        """Set an interface down that is up, with what brings it back written down before."""
        if not interfaces.is_up(interface):
            return
        if interface not in self._down:  # else it came back in part: what it was is known
            restoring = interfaces.restoring(interface)
            if restoring != self._restoring.get(interface):
                self.journal.note(restoring)
                self._restoring[interface] = restoring
            self._down.add(interface)
        execute(["ip", "link", "set", "dev", interface, "down"])

    def _set_up(self, interface: str) -> None:
        """Bring an interface back that was set down; CommandError where it does not come whole."""
        if interface in self._down:
            for command in self._restoring[interface]:
                execute(command)
            self._down.remove(interface)

    # -- samples

    def on_watch(self, message: Message) -> Message:
        """Say what samples are to be of."""
        self.close_sampler()
        self.sampler = HostSampler(
            message["interfaces"], message["probes"], message["ports"], self._progress
        )
        return {}

    def on_sample(self, message: Message) -> Message:
        """Sample the sockets now, or everything with ``whole``."""
        assert self.sampler is not None
        sample = self.sampler.whole() if message.get("whole") else self.sampler.sockets()
        return {"sample": sample}

    def on_every(self, message: Message) -> Message:
        """Sample everything at ``first_ns`` and then at each interval; 0 ends it.

        With ``looks``, look at the sockets fifty times a second besides.
        """
        self.interval_ns, self.next_ns = message["interval_ns"], message["first_ns"]
        self._look_ns = message["first_ns"] if message["looks"] and self.interval_ns else 0
        return {}

    def take_due_look(self) -> Message:
        """Return what the sockets are that senders have."""
        assert self.sampler is not None
        look = self.sampler.look()
        self._look_ns = max(self._look_ns, time.monotonic_ns() - _LOOK_EVERY_NS // 2)
        self._look_ns += _LOOK_EVERY_NS
        return {"look": look}

    def take_due_sample(self) -> Message:
        """Return the sample of an interval, which nobody asks for each time."""
        assert self.sampler is not None
        due_ns = self.next_ns
        sample = self.sampler.whole()
        late_ns = sample["at_ns"] - due_ns
        missed = max(0, (time.monotonic_ns() - due_ns) // self.interval_ns)
        self.next_ns += (1 + missed) * self.interval_ns
        return {"sample": sample, "late_ns": late_ns}

    def _progress(self) -> dict[str, list[int]]:
        return {str(number): worker.counts() for number, worker in self.workers.items()}

    def close_sampler(self) -> None:
        """Take no more samples."""
        self.interval_ns = self._look_ns = 0
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None

    # -- traffic and captures

    def on_start(self, message: Message) -> Message:
        """Start one end of a connection, or of all of a flow."""
        order, stripes = message["order"], None
        if message["role"] == "sender" and order.get("stripes"):
            if order["stripes"] not in self._stripes:
                self._stripes[order["stripes"]] = shared_stripes()
            stripes = self._stripes[order["stripes"]]
        self.workers[message["worker"]] = WorkerEnd(message["role"], order, stripes)
        return {}

    def on_order(self, message: Message) -> Message:
        """Pass an order on to one end of a connection, now or at ``at_ns``."""
        if message.get("at_ns"):
            self._due.append((message["at_ns"], message))
        else:
            self.workers[message["worker"]].order(message["text"])
        return {}

    def on_run(self, message: Message) -> Message:
        """Start a program."""
        if self.guardian is None:
            raise CommandError("programs come after begin")
        if not self._mark:
            self._mark = f"{os.getpid()}-{time.time_ns()}"
            self.journal.note([["end-programs", self._mark]])
        self.programs[message["program"]] = HostProgram(
            message["argv"], self._mark, keeps_errors=message["keeps_errors"]
        )
        return {}

    def on_signal(self, message: Message) -> Message:
        """Send a program a signal."""
        self.programs[message["program"]].send_signal(message["number"])
        return {}

    def on_bound(self, message: Message) -> Message:
        """Tell whether a socket here is bound to a port."""
        return {"bound": is_bound(os.getpid(), message["port"])}

    def on_printed(self, message: Message) -> Message:
        """End a program, and tell how much of what it printed is kept, and how much is not."""
        program = self.programs[message["program"]]
        program.kill()
        return {"bytes": program.kept_bytes, "dropped": program.dropped_bytes}

    def on_text(self, message: Message) -> Message:
        """Return a part of what a program printed."""
        data = self.programs[message["program"]].read(message["start"], _CHUNK_BYTES)
        return {"data": base64.b64encode(data).decode()}

    def on_capture(self, message: Message) -> Message:
        """Start a capture."""
        self.captures[message["interface"]] = HostCapture(
            message["interface"], message["snaplen"], message["most_bytes"]
        )
        return {}

    def on_captured(self, message: Message) -> Message:
        """End a capture and tell its length; ``whole`` is False where it had ended before."""
        capture = self.captures[message["interface"]]
        whole = not capture.ended
        return {"bytes": capture.stop(), "whole": whole}

    def on_read(self, message: Message) -> Message:
        """Return a part of a capture."""
        data = self.captures[message["interface"]].read(message["start"], _CHUNK_BYTES)
        return {"data": base64.b64encode(data).decode()}

    # -- the loop

    def serve(self) -> NoReturn:
        """Obey until it is time to end; raises LeaveError."""
        frames = FrameReader()
        stdin = sys.stdin.fileno()
        while True:
            ready, _, _ = select.select([stdin, *self._open_answers()], [], [], self._wait_s())
            if stdin in ready:
                data = os.read(stdin, 1 << 16)
                if not data:
                    raise LeaveError(undo=True)
                self.heard_s = time.monotonic()
                if self.guardian is not None and not self.guardian.alive():
                    self.guardian = Guardian(self._lock.fileno())
                for message in frames.feed(data):
                    _say(self.answer(message))
                    if self.leaving is not None:
                        raise self.leaving
            elif time.monotonic() - self.heard_s > SILENCE_S:
                raise LeaveError(undo=True)
            self._give_due_orders()
            if self.interval_ns and time.monotonic_ns() >= self.next_ns:
                _say(self.take_due_sample())
            if self._look_ns and time.monotonic_ns() >= self._look_ns:
                _say(self.take_due_look())
            for capture in self.captures.values():
                capture.look()
            self._pass_answers_on()
            for number, program in self.programs.items():
                if program.look():
                    _say({"program": number, "status": program.status})

    def _open_answers(self) -> list[int]:
        answers = [worker.answers for worker in self.workers.values() if not worker.ended]
        for program in self.programs.values():
            if program.status is None:
                answers.append(program.exit)
            if not program.is_silent:
                answers.append(program.output)
        return answers

    def _pass_answers_on(self) -> None:
        for number, worker in self.workers.items():
            if worker.ended:
                continue
            for line in worker.read():
                _say({"worker": number, "said": line})

    def _give_due_orders(self) -> None:
        now_ns = time.monotonic_ns()
        due = [message for at_ns, message in self._due if at_ns <= now_ns]
        self._due = [each for each in self._due if each[0] > now_ns]
        for message in due:
            if message["worker"] in self.workers:
                self.workers[message["worker"]].order(message["text"])

    def _wait_s(self) -> float:
        now_ns = time.monotonic_ns()
        wait_s = SILENCE_S - (time.monotonic() - self.heard_s)
        times_ns = [at_ns for at_ns, _ in self._due]
        if self.interval_ns:
            times_ns.append(self.next_ns)
        if self._look_ns:
            times_ns.append(self._look_ns)
        if self.captures:
            wait_s = min(wait_s, _CAPTURES_LOOK_S)
        if times_ns:
            wait_s = min(wait_s, (min(times_ns) - now_ns) / 1e9)
        return max(wait_s, 0.0)

    def end(self, undo: bool) -> None:
        """End what runs; undo what was done, or leave it."""
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()
        for capture in self.captures.values():
            capture.close()
        self.captures.clear()
        for program in self.programs.values():
            program.close()
        self.programs.clear()
        self.close_sampler()
        if undo and self.guardian is not None:
            self.journal.undo()
        if self.guardian is not None:
            self.guardian.dismiss()


def _say(message: Message) -> None:
    data = memoryview(encode(message))
    while data:
        data = data[os.write(1, data) :]


def main(ssh_connection: str, purpose: str) -> None:
    """Serve a controller on standard input and output until the end.

    One whose purpose is to "watch" excludes no others, and changes nothing.
    """
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # so that the guardian can end all of it

    def leave(_number: int, _frame: object) -> None:
        raise LeaveError(undo=True)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.write(1, MARK)
    lock = None if purpose == "watch" else take_lock()
    if lock is None and purpose != "watch":
        header, _ = Journal().read()
        _say({"locked": True, "by": (header or {}).get("who", "")})
        return
    _say({"locked": False})
    agent = Agent(ssh_connection, lock)
    undo = True  # at whatever end
    try:
        agent.serve()
    except LeaveError as leaving:
        undo = leaving.undo
    except (OSError, FrameError):
        pass  # the line is gone, or not a controller's
    finally:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        agent.end(undo)
        with contextlib.suppress(OSError):
            _say({"left": True})

"""SSH connections to hosts, each with its agent; the one module that knows asyncssh.

All connections share an asyncio loop in a thread.  What an agent says arrives in a queue beside an
eventfd, so that a measurement's own loop can wait for it among other things.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from mptcplab.plain_text import printable
from mptcplab.remote import bundle
from mptcplab.remote.errors import HostsError, HostsInputError
from mptcplab.remote.frames import MARK, FrameError, FrameReader, Message, encode

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")

_CONNECT_S: Final = 30
_START_S: Final = 45
_ANSWER_S: Final = 30
_LEAVE_S: Final = 15
"""How long an agent may take to undo what it did; it goes on by itself after that."""
_HEARTBEAT_S: Final = 2
_SILENCE_S: Final = 10
"""An agent answers every heartbeat: one that has said nothing for so long is out of reach."""
_NOISE_MOST: Final = 1 << 16
"""What a login shell may print before the agent."""
_SAID_MOST: Final = 4096
_CHUNK: Final = 1 << 16
_QUEUE_MOST: Final = 1 << 16


class MissingExtraError(HostsError):
    """asyncssh is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "real hosts need asyncssh, which is not installed; "
            "install it with: pip install 'mptcplab[hosts]'"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Where a host is; None leaves it to ~/.ssh/config or the user's own name."""

    address: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read "user@address", with ":port" where it is another; ValueError for what is not."""
        user, named, rest = text.rpartition("@")
        port = ""
        if rest.startswith("["):
            rest, _, port = rest[1:].partition("]")
            port = port.removeprefix(":")
        elif rest.count(":") == 1:
            rest, _, port = rest.partition(":")
        bad = not rest or rest.startswith("-") or (named and not user) or not text.isprintable()
        is_port = not port or (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
        if bad or any(letter.isspace() for letter in text) or not is_port:
            raise ValueError(f'"{text}"')
        return cls(rest, user or None, int(port) if port else None)


def controller_name() -> str:
    """Return who this is, for those who find a host in use."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"


class SshThread:
    """The thread and the loop that all connections of a run are served by."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True, name="ssh")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have the thread do something."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def wait(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Have it done, and return its result; TimeoutError where it takes too long."""
        future = self.start(work)
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            future.cancel()
            raise


class AgentLine:
    """One host: its SSH connection and the agent at the other end.

    ``name`` is what messages call it; an agent that is only to ``watch`` can change nothing, and
    does not exclude others.
    """

    def __init__(
        self, name: str, target: Target, thread: SshThread, *, watch: bool = False
    ) -> None:
        self._command = bundle.command(watch=watch)
        self.name = name
        self.target = target
        self._thread = thread
        self._connection: asyncssh.SSHClientConnection | None = None
        self._process: asyncssh.SSHClientProcess[bytes] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[int, Future[Message]] = {}
        self._asked = 0
        self._heard_s = 0.0
        self._arrived: deque[Message] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._left = asyncio.Event()
        self._is_closed = False
        self.problem = ""
        """Why there is no agent any more, once there is none."""

    # -- for the measurement's thread

    def open(self) -> None:
        """Connect and start the agent; HostsError where that cannot be."""
        try:
            self._bounded(self._open(), _CONNECT_S + _START_S, "connecting")
        except HostsError as error:
            self.problem = self.problem or str(error)
            raise

    def ask(self, do: str, **values: Any) -> Message:
        """Return the agent's answer; HostsError where it has refused or cannot be reached."""
        return self.answered(self.begin(do, **values), do)

    def answered(self, future: Future[Message], do: str) -> Message:
        """Wait for an answer that was asked for, and return it; HostsError as from :meth:`ask`."""
        try:
            answer = future.result(_ANSWER_S)
        except FutureTimeoutError as error:
            raise HostsError(f"{self.name}: no answer to {do} within {_ANSWER_S} s") from error
        if "error" in answer:
            raise HostsError(f"{self.name}: {printable(str(answer['error'])[:_SAID_MOST])}")
        return answer

    def begin(self, do: str, **values: Any) -> Future[Message]:
        """Ask for something without waiting; the future has the answer or a HostsError."""
        future: Future[Message] = Future()
        self._thread.loop.call_soon_threadsafe(self._send, future, {"do": do, **values})
        return future

    def tell(self, do: str, **values: Any) -> None:
        """Ask for something whose answer comes among :meth:`arrived` if it is an error."""

        def note(future: Future[Message]) -> None:
            error = future.exception()
            problem = str(error) if error else future.result().get("error")
            if problem:
                self._put({"problem": f"{do}: {problem}"})

        self.begin(do, **values).add_done_callback(note)

    def fileno(self) -> int:
        """The descriptor that is readable when something has arrived."""
        return self._event

    def arrived(self) -> list[Message]:
        """Return what the agent has said unasked, each once."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        arrived = []
        while self._arrived:
            arrived.append(self._arrived.popleft())
        return arrived

    def close(self, *, leave: bool = True) -> None:
        """Let the agent undo what it did and end; wait for that while the line is there.

        Without ``leave`` it has been told already.
        """
        try:
            self._bounded(self._close(leave), 2 * _ANSWER_S, "ending the agent")
        except HostsError:
            pass  # it undoes by itself what it did
        finally:
            self._is_closed = True
            os.close(self._event)

    def _bounded(self, work: Coroutine[Any, Any, T], seconds: float, what: str) -> T:
        try:
            return self._thread.wait(work, seconds)
        except FutureTimeoutError as error:
            raise HostsError(f"{self.name}: {what} takes longer than {seconds} s") from error

    # -- in the thread of the loop

    async def _open(self) -> None:
        try:
            import asyncssh
        except ImportError as error:
            raise MissingExtraError from error
        where = self.target.address
        options: dict[str, Any] = {}
        if self.target.user is not None:
            options["username"] = self.target.user
        if self.target.port is not None:
            options["port"] = self.target.port
        try:
            self._connection = await asyncssh.connect(
                where, connect_timeout=_CONNECT_S, login_timeout=_CONNECT_S, **options
            )
            self._process = await self._connection.create_process(
                self._command, encoding=None, stderr=asyncssh.PIPE
            )
        except asyncssh.HostKeyNotVerifiable as error:
            raise HostsError(
                f"{self.name}: the SSH host key of {where} is not known; connect once with "
                f"`ssh {where}` and compare it"
            ) from error
        except asyncssh.PermissionDenied as error:
            raise HostsError(
                f"{self.name}: {where} refuses the login ({printable(str(error))}); expected a key "
                f"that `ssh {where}` uses without a question"
            ) from error
        except (OSError, asyncssh.Error, TimeoutError, ValueError) as error:
            said = printable(str(error)) or "no answer"  # ValueError: a name, a key, ~/.ssh/config
            raise HostsError(f"{self.name}: no SSH connection to {where}: {said}") from error
        self._process.stdin.write(bundle.program())
        try:
            reader = await asyncio.wait_for(self._until_mark(), _START_S)
        except TimeoutError as error:
            raise HostsError(f"{self.name}: its agent did not start within {_START_S} s") from error
        self._heard_s = self._thread.loop.time()
        first = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.ensure_future(self._read(reader, first)),
            asyncio.ensure_future(self._beat()),
        ]
        greeting = await first
        if greeting.get("locked"):
            by = printable(str(greeting.get("by", ""))[:200])
            raise HostsError(
                f"{self.name}: another controller uses it{f', {by}' if by else ''}; "
                "wait until it is done, or end it"
            )

    async def _until_mark(self) -> FrameReader:
        """Skip what a login shell has printed; return a reader with what followed the mark."""
        assert self._process is not None
        noise = b""
        while MARK not in noise:
            data = await self._process.stdout.read(_CHUNK)
            noise += data
            if not data or len(noise) > _NOISE_MOST + len(MARK):
                raise HostsError(f"{self.name}: {await self._why_not_started(noise)}")
        reader = FrameReader()
        self._first = noise.partition(MARK)[2]
        return reader

    async def _why_not_started(self, noise: bytes) -> str:
        assert self._process is not None
        if len(noise) > _NOISE_MOST:
            start = printable(noise[:60].decode(errors="replace"))
            return (
                f'instead of its agent came {len(noise)} bytes, from "{start}" on; expected '
                "a login shell that prints nothing to standard output"
            )
        said = b""
        with contextlib.suppress(TimeoutError):
            said = await asyncio.wait_for(self._process.stderr.read(_SAID_MOST), 2)
        text = printable(" ".join((said or noise).decode(errors="replace").split()))[:400]
        if "password is required" in text or "a terminal is required" in text:
            return f"{text}; expected root, or a user who may `sudo -n python3` without one"
        if "no Python 3.11" in text:
            return f"{text}; expected python3 of version 3.11 or later on its PATH"
        return f"its agent did not start: {text or 'it said nothing'}"

    async def _read(self, reader: FrameReader, first: asyncio.Future[Message]) -> None:
        assert self._process is not None
        problem = "its agent has ended"
        data = self._first
        try:
            while True:
                for message in reader.feed(data):
                    self._heard_s = self._thread.loop.time()
                    if not first.done():
                        first.set_result(message)
                    else:
                        self._take(message)
                data = await self._process.stdout.read(_CHUNK)
                if not data:
                    break
        except FrameError as error:
            problem = f"its agent sent {printable(str(error))[:400]}"
        except Exception as error:  # whatever a connection that breaks raises
            problem = f"the SSH connection broke: {printable(str(error))[:200]}"
        self._fail(problem)
        if not first.done():
            first.set_exception(HostsError(f"{self.name}: {problem}"))

    async def _beat(self) -> None:
        """Ask for the clock now and then, which tells the agent that there is a controller."""
        while not self.problem:
            await asyncio.sleep(_HEARTBEAT_S)
            if self._thread.loop.time() - self._heard_s > _SILENCE_S:
                self._fail(f"the line is cut: nothing was heard for {_SILENCE_S} s")
                return
            self._send(Future(), {"do": "clock"})

    def _send(self, future: Future[Message], message: Message) -> None:
        if self.problem or self._process is None:
            future.set_exception(HostsError(f"{self.name}: {self.problem or 'not connected'}"))
            return
        self._asked += 1
        self._waiting[self._asked] = future
        self._process.stdin.write(encode(message | {"id": self._asked}))

    def _take(self, message: Message) -> None:
        if "answer" in message:
            number = message["answer"]
            future = self._waiting.pop(number, None) if isinstance(number, int) else None
            if future is not None:
                future.set_result(message)
        elif "left" in message:
            self._left.set()
        elif len(self._arrived) < _QUEUE_MOST:
            self._put(message)
        else:
            raise FrameError("messages faster than they can be taken")

    def _put(self, message: Message) -> None:
        if not self._is_closed:
            self._arrived.append(message)
            os.eventfd_write(self._event, 1)

    def _fail(self, problem: str) -> None:
        self.problem = self.problem or problem
        self._left.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HostsError(f"{self.name}: {self.problem}"))
        self._waiting.clear()
        self._put({"problem": self.problem})

    async def _close(self, leave: bool) -> None:
        if self._process is not None and not self.problem:
            if leave:
                answer: Future[Message] = Future()
                answer.add_done_callback(self._note_leaving)
                self._send(answer, {"do": "leave"})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), _LEAVE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:
            self._connection.abort()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._connection.wait_closed(), 5)

    def _note_leaving(self, answer: Future[Message]) -> None:
        """Wait no longer for what will not leave."""
        if answer.exception() is not None or "error" in answer.result():
            self._left.set()


def unpack_target(key: str, text: str) -> Target:
    """Return the target of a scenario's key; HostsInputError for what is none."""
    try:
        return Target.parse(text)
    except ValueError as error:
        raise HostsInputError(
            f'{key}: {error} is no SSH destination; expected "user@address", "address" or '
            '"user@address:port"'
        ) from error

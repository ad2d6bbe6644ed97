"""Agents that are killed at any line of theirs: their guardians leave the host as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from difflib import ndiff
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from tests.search import cases

import mptcplab
from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.syscalls import CLONE_NEWNET, setns
from mptcplab.remote.agent.journal import FOLDER, namespace_number
from mptcplab.remote.frames import MARK, FrameReader, Message, encode

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_AGENT: Final = Path(__file__).with_name("dying_agent.py")
_SOURCES: Final = Path(mptcplab.__file__).parents[1]
_STALE: Final = "/proc/sys/net/mptcp/stale_loss_cnt"
_SAYS: Final = ("address", "rule", "route show table all", "mptcp endpoint", "mptcp limits")
_AS_IT_WAS: Final = (
    "link set lo up",
    "address add 10.9.0.1/24 dev v0",
    "-6 address add fd00::1/64 dev v0 nodad",
    "-6 address add fd01::1/64 dev v0 nodad noprefixroute",
    "link set v0 up",
    "link set v1 up",
    "route add 10.8.0.0/24 via 10.9.0.2",
    "mptcp endpoint add 10.9.0.1 id 5 subflow",
    "mptcp limits set subflows 3",
)
_CHANGES: Final[list[Message]] = [
    {"command": ["write", _STALE, "7"], "undo": [["write", _STALE, "4"]]},
    *(
        {"command": f"ip {command}".split(), "undo": [f"ip {undo}".split()]}
        for command, undo in (
            (
                "-4 route add 10.9.0.0/24 dev v0 src 10.9.0.1 table 7101",
                "-4 route flush table 7101",
            ),
            (
                "-4 rule add from 10.9.0.1 lookup 7101 priority 7101",
                "-4 rule delete from 10.9.0.1 lookup 7101 priority 7101",
            ),
            ("mptcp endpoint delete id 5", "mptcp endpoint add 10.9.0.1 id 5 subflow"),
            (
                "mptcp limits set subflows 5 add_addr_accepted 4",
                "mptcp limits set subflows 3 add_addr_accepted 0",
            ),
            ("mptcp endpoint add 10.9.0.1 id 101 signal", "mptcp endpoint delete id 101"),
        )
    ),
    {"down": "v0"},
    {"up": "v0"},
]
_EVERY: Final = max(1, 89 // cases(1))
"""At which of its lines an agent is killed: each takes a second or more."""
_SET_UP: Final[list[Message]] = [
    {"do": "begin", "who": "me", "since": "now"},
    {"do": "change", "steps": _CHANGES},
]


class OneHost:
    """A host with an interface, an endpoint and routes, and agents that are started there."""

    def __init__(self, space: NetNamespace) -> None:
        self._enter = partial(setns, space.descriptor, CLONE_NEWNET)
        self.journal = FOLDER / f"{number_of(space)}.journal"
        self._agents: list[subprocess.Popen[bytes]] = []
        near, far = (rtnl.VethEnd(name, space.descriptor) for name in ("v0", "v1"))
        space.routing.request(rtnl.add_veth(near, far))
        for command in _AS_IT_WAS:
            self.on("ip", *command.split())
        self.before = self._settled()

    def on(self, *argv: str) -> str:
        """Run a program there and return what it printed."""
        done = subprocess.run(argv, preexec_fn=self._enter, capture_output=True, text=True)
        return done.stdout

    def _settled(self) -> str:
        """Return the state of both interfaces once they have all that the kernel gives them."""
        before, now = "", self.state()
        while (
            before != now
            or now.count("inet6 fe80") < 2
            or now.count(" state UP ") < 2
            or any(word in now for word in ("tentative", "NO-CARRIER", "linkdown"))
        ):
            time.sleep(0.3)
            before, now = now, self.state()
        return now

    def state(self) -> str:
        """Return all that an agent may change."""
        said = [
            "\n".join(sorted(self.on("ip", "-N", family, *what.split()).splitlines()))
            for family in ("-4", "-6")
            for what in _SAYS
        ]
        return "\n".join([*said, self.on("cat", _STALE), f"journal: {self.journal.exists()}"])

    def start(self, line: int, messages: list[Message]) -> subprocess.Popen[bytes]:
        """Start an agent that is killed at a line of its own, and send it messages."""
        agent = subprocess.Popen(
            [sys.executable, str(_AGENT), str(line)],
            preexec_fn=self._enter,
            env=os.environ | {"PYTHONPATH": str(_SOURCES)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._agents.append(agent)
        send(agent, messages)
        return agent

    def left(self) -> list[str]:
        """Wait until no guardian is there, and return what is not as it was, with "-" or "+"."""
        waited = 0
        while self.is_guarded() or self.state() != self.before:
            time.sleep(0.05)
            waited += 1
            if waited > 40:
                return [
                    line
                    for line in ndiff(self.before.splitlines(), self.state().splitlines())
                    if line[0] in "+-"
                ]
        return []

    def is_guarded(self) -> bool:
        """Say whether an agent or a guardian is there."""
        return "@mptcplab-hosts" in self.on("cat", "/proc/net/unix")

    def close(self) -> None:
        """End what was started."""
        for agent in self._agents:
            agent.kill()
            agent.communicate()


def number_of(space: NetNamespace) -> int:
    """Return the number that journals of a namespace are named by."""
    with ThreadPoolExecutor(1) as thread:  # which alone enters it, and ends there
        thread.submit(setns, space.descriptor, CLONE_NEWNET).result()
        return thread.submit(namespace_number).result()


@pytest.fixture
def host() -> Iterator[OneHost]:
    space = NetNamespace.create("undoing")
    one = OneHost(space)
    yield one
    one.close()
    space.close()


def send(agent: subprocess.Popen[bytes], messages: list[Message]) -> None:
    assert agent.stdin is not None
    with suppress(BrokenPipeError):
        agent.stdin.write(b"".join(encode(each | {"id": each["do"]}) for each in messages))
        agent.stdin.flush()


def answers(said: bytes) -> dict[Any, Message]:
    """Return what an agent has answered, by what it was asked."""
    messages = FrameReader().feed(said.partition(MARK)[2])
    return {each["answer"]: each for each in messages if "answer" in each}


def lines_of(host: OneHost, messages: list[Message]) -> int:
    """Return how many lines an agent goes through that is not killed."""
    said, lines = host.start(0, messages).communicate(timeout=60)
    assert not [answer["error"] for answer in answers(said).values() if "error" in answer]
    return int(lines)


def test_an_agent_that_is_killed_leaves_nothing(host: OneHost) -> None:
    messages = [*_SET_UP, {"do": "leave"}]
    lines = lines_of(host, messages)
    assert not host.left()
    assert lines > 200
    for line in range(lines % _EVERY + 1, lines, _EVERY):
        agent = host.start(line, messages)
        assert agent.wait(60) == -signal.SIGKILL
        assert not host.left(), f"killed at line {line} of {lines}"


def test_a_guardian_that_is_killed_has_a_successor(host: OneHost) -> None:
    agent = host.start(0, _SET_UP)
    assert agent.stdout is not None
    said = b""
    while "change" not in answers(said):
        said += os.read(agent.stdout.fileno(), 1 << 16)
    assert "error" not in answers(said)["change"]
    (guardian,) = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    os.kill(int(guardian), signal.SIGKILL)
    while ") Z " not in Path(f"/proc/{guardian}/stat").read_text():
        time.sleep(0.01)
    send(agent, [{"do": "clock"}])
    while "clock" not in answers(said):
        said += os.read(agent.stdout.fileno(), 1 << 16)
    agent.kill()
    assert not host.left()


def test_what_is_said_to_stand_stands_however_its_agent_ends(host: OneHost) -> None:
    messages = [*_SET_UP, {"do": "stand", "who": "me"}]
    lines = lines_of(host, messages)
    stood = 0
    for line in range(lines - 30, lines, 6):
        send_down(host)
        agent = host.start(line, messages)
        said, _ = agent.communicate(timeout=60)
        while host.is_guarded():
            time.sleep(0.05)
        if "stand" in answers(said):
            stood += 1
            assert '"standing": true' in host.journal.read_text(), f"killed at line {line}"
            assert "id 101 signal" in host.on("ip", "mptcp", "endpoint")
    assert stood
    send_down(host)


def send_down(host: OneHost) -> None:
    """Undo what stands, and expect that it is undone."""
    host.start(0, [{"do": "undo"}, {"do": "leave"}]).communicate(timeout=60)
    assert not host.left()


def test_a_namespace_does_not_inherit_the_journal_of_one_that_is_gone() -> None:
    seen: dict[int, int] = {}
    for _ in range(200):
        space = NetNamespace.create("number")
        file, number = os.fstat(space.descriptor).st_ino, number_of(space)
        space.close()
        assert number not in seen.values()
        if file in seen:
            return
        seen[file] = number

"""Whatever ends a lab, nothing of it is left, and the machine is as it was.

MPTCPLAB_KILLS is how many labs are killed (6 here in small; 50 and more for the long version).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.linux.lab.lab import Lab, open_lab
from mptcplab.linux.lab.supervisor import SupervisorDiedError, run_supervised
from mptcplab.linux.standing_lab import LabError, ask, execute, find, labs, start, take_down
from mptcplab.network.topology import Topology
from mptcplab.scenario import load_topology

pytestmark = pytest.mark.kernel

KILLS = int(os.environ.get("MPTCPLAB_KILLS", "6"))
MARK = "MPTCPLAB_TEST_MARK"
PATIENCE_S = 30.0

_LAB = """
import sys, time
from mptcplab.linux.lab.lab import open_lab
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.scenario.load import load_topology

def work(send):
    with open_lab(load_topology("report")) as lab:
        for host in ("bliksem", "donder", "rainbow"):
            lab.spawn(host, ["sleep", "60"])
        send("standing")
        time.sleep(60)

run_supervised(work, lambda message: print(message, flush=True))
"""


def marked(mark: str) -> list[int]:
    """Return the processes, anywhere on the machine, whose environment carries the mark."""
    found = []
    needle = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if needle in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def host_state() -> dict[str, object]:
    """Return this machine's interfaces, routes, rules and network sysctls."""
    sysctls = {}
    for path in Path("/proc/sys/net").rglob("*"):
        if path.is_file() and path.name != "nf_conntrack_count":
            try:
                sysctls[str(path)] = path.read_text()
            except OSError:
                continue
    state: dict[str, object] = {
        name: Path("/proc/net", name).read_text() for name in ("route", "ipv6_route", "fib_trie")
    }
    state["interfaces"] = sorted(entry.name for entry in Path("/sys/class/net").iterdir())
    return state | {"sysctls": sysctls}


def eventually(condition: object) -> bool:
    """Wait, in small steps, until a condition holds; False when it does not in time."""
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def killed_at_last(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """See to it that a process which should have ended does not outlive its test."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_lab_leaves_nothing(seed: int) -> None:
    chance = random.Random(seed)
    mark = f"{os.getpid()}-{seed}"
    before = host_state()
    process = subprocess.Popen(
        [sys.executable, "-c", _LAB],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process.stdout, killed_at_last(process):
        if seed % 2:
            assert process.stdout.readline() == b"standing\n"
        time.sleep(chance.uniform(0.0, 0.4))
        victim = chance.choice(sorted(marked(mark)) or [process.pid])
        number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, number)
        # a program on a host, or an emulator, may die without the lab's end
        time.sleep(0.05)
        process.terminate()
        process.wait(timeout=PATIENCE_S)
    assert eventually(lambda: not marked(mark)), marked(mark)
    assert host_state() == before


def test_the_caller_hears_that_its_supervisor_was_killed() -> None:
    def work(send: Callable[[object], None]) -> None:
        # the guardian is outside this PID namespace: only the caller can name it
        send(None)
        time.sleep(PATIENCE_S)

    def on_message(_: object) -> None:
        (guardian,) = _children(os.getpid())
        os.kill(guardian, signal.SIGKILL)

    with pytest.raises(SupervisorDiedError, match="SIGKILL"):
        run_supervised(work, on_message)


def _children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children")
    if text.exists():
        return [int(word) for word in text.read_text().split()]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == process:
                found.append(int(entry.name))
    return found


def test_an_exception_of_the_work_reaches_the_caller() -> None:
    def work(send: object) -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        run_supervised(work)


def test_two_labs_stand_side_by_side(two_links: Topology) -> None:
    def outer(send: object) -> tuple[int, int]:
        with open_lab(two_links) as one, open_lab(two_links) as other:
            other.link("lan1").set_up(False)
            return _pings(one), _pings(other)

    first, second = run_supervised(outer)
    assert first == 1
    assert second == 0


def _pings(lab: Lab) -> int:
    """Return whether a TCP connection is refused (a peer answers) on the first link."""
    probe = (
        "import socket, sys\n"
        "s = socket.socket(); s.settimeout(1)\n"
        "try: s.connect(('10.0.1.2', 9))\n"
        "except ConnectionRefusedError: print(1)\n"
        "except OSError: print(0)\n"
    )
    process = lab.spawn("left", [sys.executable, "-c", probe], stdout=subprocess.PIPE)
    return int(process.communicate(timeout=30)[0])


@pytest.fixture
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry of this test's own; labs still standing in it are taken down."""
    monkeypatch.setattr("mptcplab.linux.standing_lab.registry", lambda: tmp_path)
    yield tmp_path
    for entry in labs():
        take_down(entry)


def test_a_standing_lab_is_listed_entered_and_taken_down(
    own_registry: Path, two_links: Topology, capfd: pytest.CaptureFixture[str]
) -> None:
    start("play", two_links, lambda: open_lab(two_links), lambda notes: None)
    assert [entry.name for entry in labs()] == ["play"]
    with pytest.raises(LabError, match="is up already"):
        start("play", two_links, lambda: open_lab(two_links), lambda notes: None)
    child = os.fork()
    if child == 0:  # entering a PID namespace is for good
        os._exit(execute(find(None), "left", ["uname", "-n"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert capfd.readouterr().out == "left\n"
    take_down(find("play"))
    assert labs() == []
    assert list(own_registry.iterdir()) == []


def in_child(act: Callable[[], object]) -> int:
    """Start an act in a process of its own, whose status is 2 where the lab refuses."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except LabError:
            os._exit(2)
        os._exit(0)
    return child


def statuses(children: list[int]) -> list[int]:
    return sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def test_of_labs_of_one_name_that_start_at_once_one_is_up(
    own_registry: Path, two_links: Topology
) -> None:
    for _ in range(3):

        def up() -> None:
            start("play", two_links, lambda: open_lab(two_links), lambda notes: None)

        assert statuses([in_child(up) for _ in range(4)]) == [0, 2, 2, 2]
        [entry] = labs()
        assert ask(entry, {"do": "links"})[0]["links"]
        take_down(entry)
        assert list(own_registry.iterdir()) == []


def test_clients_that_say_nothing_delay_no_other(own_registry: Path, two_links: Topology) -> None:
    start("play", two_links, lambda: open_lab(two_links), lambda notes: None)
    with contextlib.ExitStack() as silent:
        for _ in range(10):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            silent.enter_context(client)
            client.connect(str(own_registry / "play.sock"))
        began_s = time.monotonic()
        assert ask(find("play"), {"do": "links"})[0]["links"]
        assert time.monotonic() - began_s < 2.0


@pytest.mark.parametrize("lost", ["play.sock", "nothing"])
def test_a_lab_is_down_when_that_is_said(
    own_registry: Path, two_links: Topology, lost: str
) -> None:
    start("play", two_links, lambda: open_lab(two_links), lambda notes: None)
    entry = find("play")
    (own_registry / lost).unlink(missing_ok=True)
    lab = os.pidfd_open(holder_of(own_registry / "play.json"))
    take_down(entry)
    assert select.select([lab], [], [], 0)[0], "it has ended"
    os.close(lab)
    assert list(own_registry.iterdir()) == []


def holder_of(entry: Path) -> int:
    """Return the process that has a lab's entry open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if link.samefile(entry):
                return int(link.parts[2])
    raise AssertionError(f"nobody holds {entry}")


def test_what_was_killed_while_it_started_is_removed(own_registry: Path) -> None:
    (own_registry / "play.sock").touch()
    (own_registry / "play.unfinished").touch()
    assert labs() == []
    assert list(own_registry.iterdir()) == []


def test_a_lab_whose_starter_died_before_it_was_up_does_not_stay(
    own_registry: Path, two_links: Topology
) -> None:
    def make() -> Lab:
        time.sleep(0.5)
        return open_lab(two_links)

    child = in_child(lambda: start("play", two_links, make, lambda notes: None))
    time.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    time.sleep(1.5)
    assert labs() == []
    assert list(own_registry.iterdir()) == []


def test_links_nics_and_hosts_of_a_standing_lab_go_up_and_down_by_name(
    own_registry: Path, report_topology: Topology, capsys: pytest.CaptureFixture[str]
) -> None:
    start("play", report_topology, lambda: open_lab(report_topology), lambda notes: None)

    def links(*argv: str) -> dict[str, str]:
        """Call ``lab links`` and return the state of each link, and what is set down at it."""
        assert main(["lab", "links", *argv]) == 0
        rows = capsys.readouterr().out.splitlines()[1:]
        states = {}
        for row in rows:
            state = "up" if " up " in row else "down"
            states[row.split()[0]] = state + row[row.index("  (") + 1 :] if "(" in row else state
        return states

    assert links("link1", "--down")["link1"] == "down"
    assert links("link1", "--up")["link1"] == "up"
    assert links("bliksem:eth8.520", "--down")["link5"] == "down (bliksem:eth8.520 set down)"
    assert links("bliksem:eth8.520", "--up")["link5"] == "up"
    states = links("bliksem:eth8", "--down")
    assert [name for name, state in states.items() if state != "up"] == ["link1", "link5", "link7"]
    assert links("donder", "--down")["link6"] == "up (donder:eth1.523 set down)", "at the switch"
    states = links("wan", "--speed", "1")
    assert [name for name, state in states.items() if state == "up"] == ["link7", "link8"]
    states = links("lan", "--host", "bliksem", "--speed", "10")
    assert states["link7"] == "down (bliksem:eth8.516 set down)"
    assert main(["lab", "links", "nosuch", "--up"]) == 2
    assert "has no nosuch; expected one of link1" in capsys.readouterr().err
    assert main(["lab", "links", "link1"]) == 2
    assert "--up or --down" in capsys.readouterr().err


def test_vlans_follow_their_nic_and_routes_return_whoever_sets_them(
    own_registry: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    topology = load_topology("report")  # whose NICs are interfaces: their rate is shared
    start("play", topology, lambda: open_lab(topology), lambda notes: None)

    def on_bliksem(*argv: str) -> str:
        child = os.fork()
        if child == 0:  # entering a PID namespace is for good
            os._exit(execute(find(None), "bliksem", list(argv)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return capfd.readouterr().out

    def vlans_up() -> list[str]:
        (answer, _) = ask(find(None), {"do": "links"})
        return sorted(
            each["name"].partition(":")[2]
            for each in answer["interfaces"]
            if each["host"] == "bliksem" and each["nic"] == "eth8" and each["up"]
        )

    routes = on_bliksem("ip", "route", "show", "table", "all")
    on_bliksem("ip", "link", "set", "eth8", "down")
    assert vlans_up() == []
    on_bliksem("ip", "link", "set", "eth8", "up")
    assert vlans_up() == ["eth8.1001", "eth8.516", "eth8.520"]
    on_bliksem("ip", "link", "set", "eth8.520", "down")
    assert vlans_up() == ["eth8.1001", "eth8.516"]
    on_bliksem("ip", "link", "set", "eth8.520", "up")
    assert vlans_up() == ["eth8.1001", "eth8.516", "eth8.520"]
    again = on_bliksem("ip", "route", "show", "table", "all")
    assert sorted(again.splitlines()) == sorted(routes.splitlines())


def test_the_entry_of_a_dead_lab_is_removed(own_registry: Path) -> None:
    (own_registry / "old.json").write_text(json.dumps({"name": "old"}))
    (own_registry / "old.sock").touch()
    assert labs() == []
    assert list(own_registry.iterdir()) == []


_STANDING = """
import sys
from pathlib import Path
from mptcplab.linux import standing_lab
from mptcplab.linux.lab.lab import open_lab
from mptcplab.scenario.load import load_topology

standing_lab.registry = lambda: Path(sys.argv[1])
topology = load_topology("report")  # with TAP emulators, which live as long as the lab
standing_lab.start("piped", topology, lambda: open_lab(topology), lambda notes: print("stands"))
"""


@pytest.mark.slow
def test_a_standing_lab_lets_go_of_the_pipe_it_was_started_with(own_registry: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STANDING, str(own_registry)], capture_output=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (b"stands\n", b"")
    assert [entry.name for entry in labs()] == ["piped"]

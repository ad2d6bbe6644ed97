"""Does a command that is killed leave anything behind, lose anything, or end in a traceback?

    python bench/killed_runs.py [--runs 50] [--seed N] [--only WORDS]

Starts commands, most of them on the Linux testbed, and kills each at a random moment (while it
imports, builds, verifies, measures, drains, writes or draws): with SIGINT, SIGTERM, SIGHUP or
SIGKILL, or with SIGSTOP and then one of these, sent to the command line or to any process below it.
After each it compares this machine with what it was before: processes of the command, labs, named
and mounted network namespaces, those that processes hold, interfaces, routes and rules of all
tables, qdiscs, and every sysctl under net, the list of congestion controls among them.  A run's
folder must be absent or whole, and whole where the command had said so; a lab that was told to be
up must work, and be down after `lab down`; what was left half-written must be gone after the next
command.  A lab of its own stands beside from the first kill to the last, and must then still work.

What other programs on the machine do meanwhile counts against a command, so let none change
networks.  Exit status 1 where anything was left, lost, or not said in one line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMMAND: Final = (sys.executable, "-m", "mptcplab")
MARK: Final = "MPTCPLAB_KILLED_RUN"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
STOPPED_FIRST: Final = 0.25  # of all kills: SIGSTOP, and the other signal a while later
AT_ONCE: Final = 0.2  # of all kills: within a tenth of a second, while Python and we are imported
PATIENCE_S: Final = 90.0  # a busy machine may be slow to draw a figure
CHANGING: Final = ("nf_conntrack_count", "neigh", "route/flush")  # sysctls that move by themselves

# (name, command): what the machine's own network namespace holds
LISTINGS: Final = (
    ("links", ("ip", "-o", "link")),
    ("addresses", ("ip", "-o", "address")),
    ("rules", ("ip", "rule")),
    ("rules", ("ip", "-6", "rule")),
    ("routes", ("ip", "route", "show", "table", "all")),
    ("routes", ("ip", "-6", "route", "show", "table", "all")),
    ("qdiscs", ("tc", "qdisc")),
    ("named namespaces", ("ip", "netns")),
)
_REACH: Final = (
    "import socket\n"
    "s = socket.socket(); s.settimeout(5)\n"
    "try: s.connect(('192.168.22.2', 9))\n"
    "except ConnectionRefusedError: print('reached')\n"
)


@dataclass(frozen=True)
class Target:
    """A command that is killed, and for how long it runs at most (s) if it is not.

    OUT stands for the folder of its runs, LAB for the name of a lab of its own, RUN for a finished
    run, FABRIC for a scenario with switches of Open vSwitch.
    """

    argv: str
    lasts_s: float

    @property
    def name(self) -> str:
        """What the table calls it."""
        return " ".join(self.argv.split()[: 2 if self.argv.startswith("lab") else 1])


FABRIC: Final = """
duration = "5s"
hosts = ["a", "b"]
tunables = { ndiffports = 4 }
switches = { west = { fabric = "openvswitch" }, east = { fabric = "openvswitch" } }
[links]
left = { between = ["a", "west"], rate = "100Mb/s" }
p1 = { between = ["west", "east"], rate = "20Mb/s", rtt = "10ms" }
p2 = { between = ["west", "east"], rate = "20Mb/s" }
right = { between = ["east", "b"], rate = "100Mb/s" }
[flows]
main = { from = "a", to = "b" }
"""
SHORT: Final = "--duration 2s --out OUT"
TARGETS: Final = (
    Target(f"run A --on linux {SHORT}", 7.0),
    Target(f"run A --on linux {SHORT}", 7.0),
    Target("run A --on linux --duration 1s --repetitions 2 --out OUT", 10.0),
    Target("run E --on linux --duration 2s --out OUT --json", 7.0),
    Target(f"run A --on linux --set flows.*.congestion=lia {SHORT}", 7.0),
    Target(f"run examples/two-losses --on linux {SHORT}", 7.0),
    Target("run examples/gridftp --on linux --set flows.*.striped=true --out OUT", 7.0),
    Target(f"run A --on linux --set flows.*.congestion=reno --set flows.*.protocol=sctp "
           f"--set flows.*.cmt=true --set links.*.rate=20Mb/s {SHORT}", 8.0),
    Target(f"run FABRIC --on linux {SHORT}", 8.0),
    Target(f"run B --on simulated {SHORT}", 5.0),
    Target("run A --on simulated --duration 1s --repetitions 3 --out OUT", 7.0),
    Target("compare A --variant tunables.scheduler=ecf --variant links.*.rtt=5ms --duration 1s "
           "--repetitions 2 --on simulated --out OUT", 8.0),
    Target("reproduce A --duration 1s --repetitions 1 --on simulated --out OUT", 8.0),
    Target("lab up report --name LAB", 1.5),
    Target("lab exec bliksem --name beside -- sleep 1", 1.5),
    Target("lab down LAB", 1.0),
    Target("show RUN", 2.5),
    Target("check A", 1.0),
    Target("doctor", 1.5),
)  # fmt: skip


def machine() -> dict[str, str]:
    """Return what this machine's network is, by what is compared."""
    found: dict[str, str] = {}
    for name, command in LISTINGS:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        found[name] = found.get(name, "") + said.stdout
    sysctls = []
    for path in sorted(Path("/proc/sys/net").rglob("*")):
        if path.is_file() and not any(name in str(path) for name in CHANGING):
            with contextlib.suppress(OSError):
                sysctls.append(f"{path}={path.read_text()}")
    found["sysctls"] = "".join(sysctls)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    # Open vSwitch's, if it ran with the machine's own folders
    left = [*Path("/run").glob("**/*.ctl"), *Path("/run").glob("**/*.mgmt")]
    left += [*Path("/var/lib/openvswitch").glob("*"), *Path("/var/log/openvswitch").glob("*")]
    found["files of Open vSwitch"] = "\n".join(sorted(map(str, left)))
    found["mounted namespaces"] = "\n".join(line for line in mounts if " nsfs " in line)
    return found


def held_namespaces(mark: str) -> set[str]:
    """Return the network namespaces that processes of the marked command are in."""
    found = set()
    for process in marked(mark):
        with contextlib.suppress(OSError):
            found.add(str(Path(f"/proc/{process}/ns/net").readlink()))
    return found


def namespaces_in_use() -> set[str]:
    """Return the network namespaces that processes are in."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            found.add(str(link.readlink()))
    return found


def marked(mark: str) -> list[int]:
    """Return the processes, in whatever namespace, whose environment carries the mark."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def name_of(process: int, parent: int) -> str:
    """Say which process of a command this is, for the table of victims."""
    if process == parent:
        return "command line"
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        group = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return "gone"
    line = b" ".join(words).decode(errors="replace")
    for part in (
        *("traffic.sender", "traffic.receiver", "tcpdump", "iperf3"),
        *("ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl"),
    ):
        if part in line:
            return part
    inner = next((row.split()[1:] for row in group.splitlines() if row.startswith("NSpid")), [])
    if len(inner) == 1:
        return "guardian"
    return "supervisor" if inner[-1] == "1" else "emulator or traffic"


class Trial:
    """One command, started and killed, and everything that is wrong afterwards."""

    def __init__(self, number: int, seed: int, target: Target, folder: Path, done: Path) -> None:
        self._chance = random.Random(f"{seed} {number}")
        self._mark = f"{os.getpid()}-{number}"
        self._target = target
        self._lab = f"killed-{self._mark}"
        self._out = folder / f"run{number}"
        self._log = folder / f"said{number}"
        names = {"OUT": str(self._out), "LAB": self._lab, "RUN": str(done)}
        names["FABRIC"] = str(folder / "fabric.toml")
        names["beside"] = f"beside-{os.getpid()}"
        self._argv = [names.get(word, word) for word in target.argv.split()]
        self.what = ""
        """Which process got which signal."""

    def run(self) -> list[str]:
        """Start it, kill it, and return what is wrong."""
        before = machine()
        if self._target.name == "lab down":
            _mptcplab("lab", "up", "report", "--name", self._lab)
        with self._log.open("w") as log:
            process = subprocess.Popen(
                [*COMMAND, *self._argv],
                env={**os.environ, MARK: self._mark},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        early = self._chance.random() < AT_ONCE
        moment_s = self._chance.uniform(0.0, 0.1 if early else self._target.lasts_s)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moment_s)
        held = held_namespaces(self._mark)
        self._kill(process)
        return [*self._ending(process), *self._left(before, held)]

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        everyone = sorted(marked(self._mark)) or [process.pid]
        # half of them to the command line, which is what people and systems kill
        victim = process.pid if self._chance.random() < 0.5 else self._chance.choice(everyone)
        who = name_of(victim, process.pid) if process.poll() is None else "over already"
        which = self._chance.choice(SIGNALS)
        stopped = self._chance.random() < STOPPED_FIRST
        with contextlib.suppress(ProcessLookupError):
            if stopped:
                os.kill(victim, signal.SIGSTOP)
                time.sleep(self._chance.uniform(0.0, 0.5))
            os.kill(victim, which)
            if stopped:
                os.kill(victim, signal.SIGCONT)
        self.what = f"{'SIGSTOP, ' if stopped else ''}{which.name} to {who} of {self._target.name}"

    def _ending(self, process: subprocess.Popen[bytes]) -> list[str]:
        """Wait for the command's end and judge what it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2.0)
        if process.poll() is None:  # a flow or an emulator died, and the run goes on to its end
            process.terminate()
        try:
            process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return [f"did not end within {PATIENCE_S:g} s of SIGTERM"]
        said = self._log.read_text(errors="replace")
        problems = []
        if "Traceback" in said or "Exception ignored" in said:
            # before Python has come to our first line, nothing of ours can be done about it
            if re.search(r"mptcplab|Exception ignored", said):
                problems.append(f"said: {said[-1500:]}")
            else:
                self.what += " (while Python itself started)"
        if "\nRun     " in said and not (self._out / "run.json").exists():
            problems.append("lost a run that it had said to be finished")
        return problems

    def _left(self, before: dict[str, str], held: set[str]) -> list[str]:
        problems = self._labs_work()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and marked(self._mark):
            time.sleep(0.02)
        problems += [f"process {process}" for process in marked(self._mark)]
        own = str(Path("/proc/self/ns/net").readlink())
        # A process that is ending has no environment any more, and is still in its namespace.
        while time.monotonic() < deadline and held & namespaces_in_use() - {own}:
            time.sleep(0.02)
        problems += [f"namespace {name}" for name in sorted(held & namespaces_in_use() - {own})]
        after = machine()
        for name in before:
            if before[name] != after[name]:
                changed = set(before[name].splitlines()) ^ set(after[name].splitlines())
                problems.append(f"{name}: {'; '.join(sorted(changed)[:4])}")
        return problems + self._runs_are_whole()

    def _labs_work(self) -> list[str]:
        """A lab is up and works, or is not listed; then take it down."""
        if "LAB" not in self._target.argv.split():
            return []
        problems = []
        deadline = time.monotonic() + 5.0
        listed = _mptcplab("lab", "list").stdout
        while f"{self._lab} " in listed and self._target.name == "lab down":
            listed = _mptcplab("lab", "list").stdout  # it had been told to go down already
            if time.monotonic() > deadline:
                break
        if f"{self._lab} " in listed:
            links = _mptcplab("lab", "links", "--name", self._lab)
            if links.returncode:
                problems.append(f"a lab that does not work: {links.stderr}")
            down = _mptcplab("lab", "down", self._lab)
            if down.returncode:
                problems.append(f"a lab that does not go down: {down.stderr}")
        return problems

    def _runs_are_whole(self) -> list[str]:
        problems = []
        found = [self._out, *self._out.rglob("*")] if self._out.exists() else []
        for folder in [path.parent for path in found if path.name == "run.json"]:
            shown = _mptcplab("show", str(folder))
            if shown.returncode not in (0, 1):
                problems.append(f"unreadable result {folder}: {shown.stderr}")
        for parent in {self._out.parent, *(path for path in found if path.is_dir())}:
            code = (
                f"from pathlib import Path\nfrom mptcplab.results import writer\n"
                f"writer.remove_abandoned(Path({str(parent)!r}))"
            )
            if list(parent.glob(".*.partial")):
                subprocess.run([sys.executable, "-c", code], check=True)
            problems += [f"stale {path}" for path in parent.glob(".*.partial")]
        return problems


def _mptcplab(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *argv], capture_output=True, text=True, check=False)


def main() -> int:
    """Kill commands and say what was left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="commands that contain this")
    parser.add_argument("--for", dest="seconds", type=float, default=1e9, help="stop after that")
    options = parser.parse_args()
    targets = [target for target in TARGETS if options.only in target.argv]
    start, began_s = machine(), time.monotonic()
    beside = f"beside-{os.getpid()}"
    subprocess.run([*COMMAND, "lab", "up", "report", "--name", beside], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        done = Path(scratch) / "done"
        Path(scratch, "fabric.toml").write_text(FABRIC)
        _mptcplab("run", "A", "--duration", "1s", "--out", str(done))
        try:
            victims, killed, bad = _kill_all(options, targets, Path(scratch), done)
            reached = _mptcplab(
                *("lab", "exec", "--name", beside, "bliksem", "--", sys.executable, "-c", _REACH)
            )
            if reached.stdout.strip() != "reached":
                print(f"the lab that stood beside does not work: {reached.stderr.strip()}")
                bad += 1
        finally:
            subprocess.run([*COMMAND, "lab", "down", beside], check=True)
    end = machine()
    changed = [name for name in start if start[name] != end[name]]
    if changed:
        print(f"not as before the first run: {', '.join(changed)}")
        bad += 1
    for what, count in sorted(victims.items()):
        print(f"{count:4}  {what}")
    print(f"{killed} commands killed in {time.monotonic() - began_s:.0f} s, {bad} with a problem")
    return 1 if bad else 0


def _kill_all(
    options: argparse.Namespace, targets: Sequence[Target], scratch: Path, done: Path
) -> tuple[Counter[str], int, int]:
    victims: Counter[str] = Counter()
    bad = number = 0
    end_s = time.monotonic() + options.seconds
    while number < options.runs and time.monotonic() < end_s:
        trial = Trial(number, options.seed, targets[number % len(targets)], scratch, done)
        problems = trial.run()
        victims[trial.what] += 1
        bad += bool(problems)
        print(f"{number:4}  {trial.what}: {'; '.join(problems) or 'nothing left'}", flush=True)
        number += 1
    return victims, number, bad


if __name__ == "__main__":
    sys.exit(main())

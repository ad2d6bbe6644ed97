"""Does a run that was bent say so, and is one that was not left alone?

    python bench/bent_runs.py [--only WORD] [--bent | --honest] [--part K/N] [--markdown]

Each bent run is bent by something that a machine or somebody on it may do: a process stopped or
killed, a shaper changed, an address or a route removed, too little CPU.  It has to be invalid, and
to give that as a reason.  Each honest run, from 10 kb/s to 2 Gb/s, from no delay to 700 ms, on 1 to
15 links, has to be valid.  Prints a line for each; exit status 1 where one is not what it has to
be.  Needs root, iproute2, util-linux, two CPUs and an otherwise quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

COMMAND: Final = (sys.executable, "-m", "mptcplab")
MARK: Final = "MPTCPLAB_BENT_RUN"
PATIENCE_S: Final = 120.0
WIRE: Final = "wire"


class Processes:
    """The processes of a run that is under way, and the way into its network namespaces."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        needle = f"{MARK}={mark}".encode()
        self.all: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and needle in (entry / "environ").read_bytes().split(b"\0"):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    self.all[int(entry.name)] = line

    def traffic(self, role: str) -> int:
        """Return the first sender's or receiver's process."""
        return min(pid for pid, line in self.all.items() if f"traffic.{role}" in line)

    def named(self, name: str) -> int:
        """Return the process of a name: sender, receiver, supervisor, or the first emulator."""
        if name == "supervisor":
            return self.supervisor()
        if name in ("tcpdump", "own_stack"):
            return next(pid for pid, line in self.all.items() if name in line)
        return self.emulators()[0] if name == "emulator" else self.traffic(name)

    def supervisor(self) -> int:
        """Return the first process of the PID namespace."""
        return next(pid for pid in self.all if _inner_pid(pid) == 1)

    def emulators(self) -> list[int]:
        """Return the emulators, in the order in which they were started."""
        first = self.supervisor()
        return sorted(
            pid
            for pid, line in self.all.items()
            if _parent(pid) == first and "mptcplab run" in line and pid != first
        )

    def on(self, role: str, *argv: str) -> None:
        """Run a command in the namespace of the sender, of the receiver, or in the wire."""
        if role == WIRE:
            for space in self._spaces():
                done = subprocess.run(
                    ["nsenter", f"--net={space}", *argv], capture_output=True, check=False
                )
                if done.returncode == 0:
                    return
            raise RuntimeError(f"{argv}: {done.stderr.decode()}")
        subprocess.run(["nsenter", "-t", str(self.traffic(role)), "-n", *argv], check=True)

    def _spaces(self) -> Iterator[str]:
        seen = set()
        for link in Path(f"/proc/{self.supervisor()}/fd").iterdir():
            with contextlib.suppress(OSError):
                name = str(link.readlink())
                if name.startswith("net:") and name not in seen:
                    seen.add(name)
                    yield str(link)


def _inner_pid(pid: int) -> int:
    with contextlib.suppress(OSError, StopIteration):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        words = next(line.split() for line in status if line.startswith("NSpid"))
        return int(words[-1]) if len(words) > 2 else 0
    return 0


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


Bend = Callable[[Processes], None]


@dataclass(frozen=True)
class Case:
    """A run: its links (keys of each), what is done to it, and the reason that it has to give."""

    name: str
    links: Sequence[str]
    reason: str = ""
    """A regular expression; empty for an honest run."""
    bend: Bend | None = None
    """What is done a while after the measurement began."""
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    """What is so from before the run to its end."""
    prefix: tuple[str, ...] = ()
    head: str = ""
    flow: str = ""
    timeline: str = ""
    duration_s: float = 4.0
    after_s: float = 1.0

    def scenario(self) -> str:
        """Return the run's scenario file."""
        text = f'duration = "{self.duration_s}s"\ninterval = "250ms"\n'
        text += self.head if "hosts" in self.head else self.head + 'hosts = ["a", "b"]\n'
        for number, keys in enumerate(self.links):
            text += f'[links.l{number}]\nbetween = ["a", "b"]\n{keys}\n'
        return text + f'[flows.main]\nfrom = "a"\nto = "b"\n{self.flow}\n{self.timeline}'


def on(role: str, *commands: str) -> Bend:
    """Run commands in the namespace of the sender, of the receiver, or in the wire."""

    def bend(run: Processes) -> None:
        for command in commands:
            run.on(role, *command.split())

    return bend


def stop(process: str, seconds: float | None) -> Bend:
    """Stop a process for a while, or for good."""

    def bend(run: Processes) -> None:
        pid = run.named(process)
        os.kill(pid, signal.SIGSTOP)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)

    return bend


def kill(process: str) -> Bend:
    """Kill a process."""
    return lambda run: os.kill(run.named(process), signal.SIGKILL)


def pin(run: Processes) -> None:
    """Let everything that carries traffic use one CPU alone."""
    for pid in (*run.emulators(), run.named("sender"), run.named("receiver")):
        os.sched_setaffinity(pid, {0})


@contextlib.contextmanager
def hogs(count: int, *prefix: str) -> Iterator[None]:
    """Keep every CPU busy with so many processes each."""
    loop = [*prefix, sys.executable, "-c", "while True: pass"]
    running = [
        subprocess.Popen(["taskset", "-c", str(cpu), *loop])
        for cpu in os.sched_getaffinity(0)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextlib.contextmanager
def quota(share: float) -> Iterator[None]:
    """Let this process and what it starts have that much of one CPU (cgroup v1 or v2)."""
    v1 = Path("/sys/fs/cgroup/cpu")
    folder = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"bent-{os.getpid()}"
    folder.mkdir()
    try:
        if v1.is_dir():
            (folder / "cpu.cfs_period_us").write_text("100000")
            (folder / "cpu.cfs_quota_us").write_text(str(round(share * 100_000)))
        else:
            (folder / "cpu.max").write_text(f"{round(share * 100_000)} 100000")
        home = folder.parent / "cgroup.procs"
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            home.write_text(str(os.getpid()))
    finally:
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


KERNEL: Final = ('rate = "40Mb/s"\nqueue = "100KB"', 'rate = "20Mb/s"\nqueue = "100KB"')
TAP: Final = ('rate = "40Mb/s"\nrtt = "10ms"', 'rate = "20Mb/s"\nrtt = "20ms"')
FAST: Final = ('rate = "1Gb/s"\nrtt = "10ms"',) * 3
SMALL: Final = ('rate = "100Mb/s"\nrtt = "10ms"',) * 8
OURS: Final = 'hosts = { a = {}, b = { stack = "ours" } }\n'
CPU: Final = "(the CPU|its emulator) was the limit|needs? .* CPU"
SHAPER: Final = "tc qdisc change dev w0b root handle 2: tbf"

BENT: Final = (
    Case("two busy programs on each CPU", FAST[:2], CPU, around=lambda: hogs(2)),
    Case(
        "a real-time program on each CPU",
        TAP,
        f"late by|{CPU}",
        around=lambda: hogs(1, "chrt", "-f", "50"),
    ),
    Case("pinned to one CPU, three links of 1 Gb/s", FAST, CPU, prefix=("taskset", "-c", "0")),
    Case("moved to one CPU, three links of 1 Gb/s", FAST, CPU, pin),
    Case("pinned to one CPU, one link of 5 Gb/s", ('rate = "5Gb/s"\nrtt = "10ms"',), CPU,
         prefix=("taskset", "-c", "0")),
    Case("one link of 5 Gb/s", ('rate = "5Gb/s"\nrtt = "10ms"',), CPU),
    Case("eight links of 500 Mb/s", ('rate = "500Mb/s"\nrtt = "10ms"',) * 8, CPU),
    Case("40 links", SMALL * 5, "expected at most"),
    Case("a quota of a fifth of a CPU", SMALL[:2], CPU, around=lambda: quota(0.2)),
    Case("an emulator stopped for 0.9 s", TAP, "l0: its emulator was late by up to",
         stop("emulator", 0.9)),
    Case("an emulator stopped for good", TAP, "the emulator of l0 was stopped",
         stop("emulator", None)),
    Case("an emulator killed", TAP, r"l0: its emulator is gone \(killed by SIGKILL\)",
         kill("emulator")),
    Case("the sender stopped for 0.5 s", KERNEL, "the sender of .* was stopped",
         stop("sender", 0.5)),
    Case("the receiver stopped for 0.5 s", KERNEL, "the receiver of .* was stopped",
         stop("receiver", 0.5)),
    Case("the sender stopped for good", KERNEL, "the sender of .* was stopped",
         stop("sender", None)),
    Case("the receiver stopped for good", KERNEL, "the receiver of .* was stopped",
         stop("receiver", None)),
    Case("the sender killed", KERNEL, "sender: its process ended", kill("sender")),
    Case("the receiver killed", KERNEL, "receiver: its process ended", kill("receiver")),
    Case("a capture killed", KERNEL, "the capture on a:eth0 ended", kill("tcpdump"),
         head='captures = ["a:eth0"]\n'),
    Case("a stack of ours killed", KERNEL, "process ended", kill("own_stack"), head=OURS),
    Case("a stack of ours stopped", KERNEL, "the stack of b was stopped", stop("own_stack", 0.5),
         head=OURS),
    Case("the testbed stopped for 1 s", KERNEL, "the sampler was late", stop("supervisor", 1.0)),
    Case("a shaper's rate lowered", KERNEL, "rate_bps is",
         on(WIRE, f"{SHAPER} rate 5mbit burst 20kb limit 100kb")),
    Case("a shaper's queue lengthened", KERNEL, "queue is",
         on(WIRE, f"{SHAPER} rate 40mbit burst 30kb limit 900kb")),
    Case("another qdisc on an interface", KERNEL, "qdisc",
         on("sender", "tc qdisc replace dev eth0 root tbf rate 5mbit burst 20kb limit 100kb")),
    Case("a qdisc that came and went", KERNEL, "changed by somebody",
         on("sender", "tc qdisc replace dev eth0 root tbf rate 5mbit burst 20kb limit 100kb",
            "sleep 1", "tc qdisc del dev eth0 root")),
    Case("an address removed", KERNEL, "address(es)? gone",
         on("sender", "ip address flush dev eth1")),
    Case("an address added", KERNEL, "address new",
         on("sender", "ip address add 10.99.0.1/24 dev eth1")),
    Case("a route removed", KERNEL, "routes? gone",
         on("sender", "ip route del default table 2")),
    Case("a blackhole added", KERNEL, "route new",
         on("sender", "ip route add blackhole 10.1.2.3")),
    Case("a rule removed", KERNEL, "rule gone", on("sender", "ip rule del table 2")),
    Case("the endpoints removed", KERNEL, "MPTCP endpoints? gone",
         on("receiver", "ip mptcp endpoint flush")),
    Case("an interface set down", KERNEL, "is down or gone",
         on("receiver", "ip link set eth1 down")),
    Case("a cable pulled in the wire", KERNEL, "has lost its carrier",
         on(WIRE, "ip link set w1b down")),
    Case("an MTU lowered", KERNEL, "the MTU of eth1",
         on("sender", "ip link set eth1 mtu 900")),
)  # fmt: skip

OUTAGE: Final = '[[timeline]]\nat = "1.5s"\ndown = "l0"\n[[timeline]]\nat = "3s"\nup = "l0"\n'
SLOWER: Final = '[[timeline]]\nat = "2s"\nchange = "l0"\nrate = "20Mb/s"\n'
NIC: Final = '[[timeline]]\nat = "1.5s"\ndown = "a:eth0"\n[[timeline]]\nat = "3s"\nup = "a:eth0"\n'
LITTLE: Final = 'buffer = "16KB"'  # which drains in seconds
EIGHT: Final = f"use = {json.dumps([f'l{number}' for number in range(8)])}"

HONEST: Final = (
    Case("10 kb/s", ('rate = "10kb/s"\nqueue = "5 packets"',), flow=LITTLE, duration_s=8),
    Case(
        "64 kb/s, 700 ms",
        ('rate = "64kb/s"\nrtt = "700ms"\nqueue = "10 packets"',),
        flow=LITTLE,
        duration_s=8,
    ),
    Case("256 kb/s, 10 ms", ('rate = "256kb/s"\nrtt = "10ms"',)),
    Case("1 Mb/s, 10 ms", ('rate = "1Mb/s"\nrtt = "10ms"',)),
    Case("10 Mb/s, 700 ms", ('rate = "10Mb/s"\nrtt = "700ms"',), duration_s=8),
    Case("20 Mb/s, 50 ms, 1 % loss", ('rate = "20Mb/s"\nrtt = "50ms"\nloss = "1%"',)),
    Case("20 Mb/s, 20 ms, 5 ms of jitter", ('rate = "20Mb/s"\nrtt = "20ms"\njitter = "5ms"',)),
    Case("100 Mb/s", ('rate = "100Mb/s"',)),
    Case("100 Mb/s, 1 ms", ('rate = "100Mb/s"\nrtt = "1ms"',)),
    Case("300 Mb/s, 33 ms", ('rate = "300Mb/s"\nrtt = "33ms"',)),
    Case("600 Mb/s", ('rate = "600Mb/s"',)),
    Case("1 Gb/s", ('rate = "1Gb/s"',)),
    Case("1 Gb/s, 10 ms", ('rate = "1Gb/s"\nrtt = "10ms"',)),
    Case("1.5 Gb/s", ('rate = "1.5Gb/s"',)),
    Case("2 Gb/s", ('rate = "2Gb/s"',)),
    Case("two links", KERNEL),
    Case("two links, 10 and 20 ms", TAP),
    Case("four links of 20 Mb/s, 10 ms", ('rate = "20Mb/s"\nrtt = "10ms"',) * 4),
    Case("eight links of 10 Mb/s", ('rate = "10Mb/s"',) * 8),
    Case("fifteen links of 5 Mb/s, eight in use", ('rate = "5Mb/s"',) * 15, flow=EIGHT),
    Case("a link that fails and returns", KERNEL, timeline=OUTAGE, duration_s=6),
    Case("a link of 10 ms that fails and returns", TAP, timeline=OUTAGE, duration_s=6),
    Case("a NIC that is set down and up", KERNEL, timeline=NIC, duration_s=6),
    Case("a rate that the timeline changes", KERNEL, timeline=SLOWER),
    Case("a sender with little to send", ('rate = "100Mb/s"\nrtt = "10ms"',), flow='size = "1MB"'),
)


def run(case: Case, folder: Path) -> tuple[bool, list[str], str]:
    """Do a run; return whether it is valid, its reasons, and what went wrong with the trial."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    file, out = folder / "scenario.toml", folder / mark
    file.write_text(case.scenario())
    argv = [*case.prefix, *COMMAND, "run", str(file), "--on", "linux", "--out", str(out)]
    with (
        case.around(),
        subprocess.Popen(
            argv,
            env={**os.environ, MARK: mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line == "[measuring]\n" and case.bend is not None:
                time.sleep(case.after_s)
                case.bend(Processes(mark))
    if not (out / "run.json").exists():
        return False, [said[-1].strip() if said else "nothing was said"], "no run"
    metadata = json.loads((out / "run.json").read_text())
    problem = "traceback" if any("Traceback" in line for line in said) else ""
    return metadata["valid"], metadata["invalid_reasons"], problem


def judge(case: Case, valid: bool, reasons: Sequence[str], problem: str) -> bool:
    """Say whether a run is what it has to be."""
    if problem == "traceback":
        return False
    if not case.reason:
        return valid
    return not valid and any(re.search(case.reason, reason) for reason in reasons)


def main() -> int:
    """Do the runs and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="runs with this in their names")
    parser.add_argument("--bent", action="store_true", help="the bent ones alone")
    parser.add_argument("--honest", action="store_true", help="the honest ones alone")
    parser.add_argument("--part", default="1/1", help="of N parts, the K-th")
    parser.add_argument("--markdown", action="store_true", help="print rows of a table")
    options = parser.parse_args()
    part, parts = (int(word) for word in options.part.split("/"))
    cases = [*(() if options.honest else BENT), *(() if options.bent else HONEST)]
    cases = [case for case in cases if options.only in case.name][part - 1 :: parts]
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases:
            began_s = time.monotonic()
            valid, reasons, problem = run(case, Path(scratch))
            right = judge(case, valid, reasons, problem)
            wrong += not right
            said = "valid" if valid else "; ".join(reasons[:3])
            if case.reason and not valid:
                said = next((r for r in reasons if re.search(case.reason, r)), said)
            taken = f"{time.monotonic() - began_s:.1f} s"
            if options.markdown:
                print(f"| {case.name} | {'' if right else '**'}{said}{'' if right else '**'} |")
            else:
                print(f"{'ok   ' if right else 'WRONG'} {case.name:45} {taken:>7} {said} {problem}")
            sys.stdout.flush()
    print(f"{len(cases)} runs, {wrong} wrong", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

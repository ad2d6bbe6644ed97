"""Does a run that is killed leave anything behind?

    python bench/killed_runs.py [--runs 50] [--seed N] [--scenario A]

Starts runs on the Linux testbed and kills each at a random moment (while it builds, verifies,
measures or writes) with SIGINT, SIGTERM or SIGKILL, sent to the command line or to any process
below it.  After each it compares this machine with what it was before: processes of the run,
named and mounted network namespaces, those that processes hold, interfaces, routes and rules of all
tables, qdiscs, and every sysctl under net; and a run's folder must be absent or whole.  A standing
lab of its own stands beside from the first kill to the last, and must then still work.

What other programs on the machine do meanwhile counts against a run, so let none change networks.
Exit status 1 where anything was left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

COMMAND: Final = (sys.executable, "-m", "mptcplab")
MARK: Final = "MPTCPLAB_KILLED_RUN"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LONGEST_S: Final = 6.0  # of the moments at which runs of 3 s are killed: some are over by then
PATIENCE_S: Final = 60.0  # a busy machine may be slow to draw a figure
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
    found["mounted namespaces"] = "\n".join(line for line in mounts if " nsfs " in line)
    return found


def held_namespaces(mark: str) -> set[str]:
    """Return the network namespaces that processes of the marked run are in."""
    found = set()
    for process in marked(mark):
        with contextlib.suppress(OSError):
            found.add(str(Path(f"/proc/{process}/ns/net").readlink()))
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
    """Say which process of a run this is, for the table of victims."""
    if process == parent:
        return "command line"
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        group = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return "gone"
    line = b" ".join(words).decode(errors="replace")
    for part in ("traffic.sender", "traffic.receiver", "tcpdump", "iperf3"):
        if part in line:
            return part
    inner = next((row.split()[1:] for row in group.splitlines() if row.startswith("NSpid")), [])
    if len(inner) == 1:
        return "guardian"
    return "supervisor" if inner[-1] == "1" else "emulator or traffic"


def kill_one(number: int, options: argparse.Namespace, folder: Path) -> tuple[str, str, list[str]]:
    """Start a run, kill it, and return victim, signal and what was left of it."""
    chance = random.Random(f"{options.seed} {number}")
    mark, run = f"{os.getpid()}-{number}", folder / f"run{number}"
    before = machine()
    process = subprocess.Popen(
        [*COMMAND, "run", options.scenario, "--on", "linux", "--duration", "3s", "--out", str(run)],
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=chance.uniform(0.0, LONGEST_S))
    held = held_namespaces(mark)
    victim = chance.choice(sorted(marked(mark)) or [process.pid])
    who = name_of(victim, process.pid) if process.poll() is None else "over already"
    which = chance.choice(SIGNALS)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, which)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1.0)
    if process.poll() is None:  # a flow or an emulator died, and the run goes on to its end
        process.terminate()
        process.wait(timeout=PATIENCE_S)
    return who, which.name, _left(mark, before, held, run)


def _left(mark: str, before: dict[str, str], held: set[str], run: Path) -> list[str]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and marked(mark):
        time.sleep(0.02)
    problems = [f"process {process}" for process in marked(mark)]
    own = str(Path("/proc/self/ns/net").readlink())
    still = {
        str(link.readlink()) for link in Path("/proc").glob("[0-9]*/ns/net") if _readable(link)
    }
    problems += [f"namespace {name}" for name in sorted(held & still - {own})]
    after = machine()
    problems += [name for name in before if before[name] != after[name]]
    if run.exists():
        shown = subprocess.run([*COMMAND, "show", str(run)], capture_output=True, check=False)
        if shown.returncode not in (0, 1):
            problems.append(f"unreadable result {run}: {shown.stderr.decode()}")
    return problems


def _readable(link: Path) -> bool:
    try:
        link.readlink()
    except OSError:
        return False
    return True


def main() -> int:
    """Kill runs and say what was left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", default="A")
    options = parser.parse_args()
    start = machine()
    beside = f"beside-{os.getpid()}"
    subprocess.run([*COMMAND, "lab", "up", "report", "--name", beside], check=True)
    victims: Counter[str] = Counter()
    bad = 0
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for number in range(options.runs):
                who, which, problems = kill_one(number, options, Path(scratch))
                victims[f"{which} to {who}"] += 1
                bad += bool(problems)
                if problems:
                    print(f"run {number}: {which} to {who} left {', '.join(problems)}", flush=True)
        said = subprocess.run(
            [
                *COMMAND,
                "lab",
                "exec",
                "--name",
                beside,
                "bliksem",
                "--",
                sys.executable,
                "-c",
                _REACH,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.stdout.strip() != "reached":
            print(f"the lab that stood beside does not work any more: {said.stderr.strip()}")
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
    print(f"{options.runs} runs killed, {bad} left something")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

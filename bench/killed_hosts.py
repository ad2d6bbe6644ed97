"""End runs on real hosts at random moments, and look whether anything is left on them.

    python bench/killed_hosts.py [N] [WAY ...]

    python bench/killed_hosts.py --applications [N] [WAY ...]

Ends N runs (20) in each way: "controller" (SIGKILL of the command), "line" (the management network
gone), "agent" (SIGKILL of a process of an agent) and "everything" (SIGKILL of all of them at once,
after which `mptcplab hosts FILE down` has only journals to go by).  The hosts are namespaces with
sshd. Rules, routes, endpoints, limits, sysctls, interfaces, processes and journals of afterwards
are compared with those of before. With --applications, the runs have a flow of each application,
programs among them, in the place of one that sends.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.linux.remote.conftest import APPLICATIONS, TWO_LINKS
from tests.linux.remote.kills import LONGEST_S, WAYS, end_a_run
from tests.linux.remote.machines import Machines, machines

from mptcplab.scenario import load


def main(runs: int, ways: list[str], options: Sequence[str], scenario: Path) -> int:
    """Return 1 where anything was left."""
    failures = 0
    topology = load(TWO_LINKS).topology
    with tempfile.TemporaryDirectory() as folder, machines(topology, Path(folder)) as hosts:
        for way in ways:
            began = time.monotonic()
            left = sum(_leaves(hosts, way, options, scenario) for _ in range(runs))
            failures += left
            took_s = time.monotonic() - began
            print(f"{way}: {runs} runs ended, {left} left something ({took_s:.0f} s)", flush=True)
    return 1 if failures else 0


def _leaves(hosts: Machines, way: str, options: Sequence[str], scenario: Path) -> bool:
    """End one run at a random moment, and say whether it left anything."""
    try:
        end_a_run(hosts, way, random.uniform(0.2, LONGEST_S), *options, scenario=scenario)
    except AssertionError as error:
        print(error, flush=True)
        return True
    return False


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    chosen = [word for word in sys.argv[1:] if word in WAYS]
    applications = "--applications" in sys.argv[1:]
    sys.exit(
        main(
            numbers[0] if numbers else 20,
            chosen or list(WAYS),
            ["--plugins"] if applications else [],
            APPLICATIONS if applications else TWO_LINKS,
        )
    )

"""Run experiments at their full rates on machines over SSH and in namespaces, and compare.

    python -m bench.hosts_and_namespaces A|B [REPETITIONS] [DURATION]

The machines are namespaces with sshd, as in the tests of real hosts; the links between them are
those that the namespace testbed makes.  Prints a row for each stage: the goodput of each run, the
means and by how much they differ.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

from tests.linux.remote.machines import Machines, machines
from tests.linux.remote.test_experiments import stage_rates

from mptcplab.results.run import Run
from mptcplab.scenario import load


def main(name: str, repetitions: int, duration: str) -> None:
    """Run all and print the table."""
    options = ("--duration", duration, "--interval", "100ms")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        both: tuple[list[list[float]], list[list[float]]] = ([], [])
        with machines(load(name).topology, place) as hosts:
            for number in range(repetitions):
                both[0].append(_on_hosts(hosts, name, options, place / f"hosts-{number}"))
                both[1].append(_in_namespaces(name, options, place / f"linux-{number}"))
    for stage in range(len(both[0][0])):
        real, virtual = ([rates[stage] for rates in runs] for runs in both)
        off = mean(real) / mean(virtual) - 1
        print(
            f"{name} stage {stage + 1}: hosts {_shown(real)}, namespaces {_shown(virtual)} Mb/s, "
            f"{off:+.1%}",
            flush=True,
        )


def _on_hosts(hosts: Machines, name: str, options: tuple[str, ...], out: Path) -> list[float]:
    done = hosts.run(
        *("run", name, "--on", "hosts", *hosts.options, *options, "--out", str(out)), timeout=280
    )
    return _rates(out, done.stderr)


def _in_namespaces(name: str, options: tuple[str, ...], out: Path) -> list[float]:
    command = [sys.executable, "-m", "mptcplab", "run", name, "--on", "linux", *options]
    done = subprocess.run([*command, "--out", out], capture_output=True, text=True, timeout=280)
    return _rates(out, done.stderr)


def _rates(out: Path, said: str) -> list[float]:
    if not out.exists():
        raise SystemExit(said)
    run = Run(out)
    for reason in run.metadata["invalid_reasons"]:
        print(f"{out.name}: {reason}", flush=True)
    return stage_rates(run)


def _shown(rates: list[float]) -> str:
    each = ", ".join(f"{rate / 1e6:.0f}" for rate in rates)
    return f"{mean(rates) / 1e6:.0f} ({each})"


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]) if len(sys.argv) > 2 else 3,
        sys.argv[3] if len(sys.argv) > 3 else "12s",
    )

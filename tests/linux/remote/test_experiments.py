"""Experiments of the report on machines over SSH give what the namespace testbed gives.

At a tenth of their rates, which any machine has CPU time for.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from tests.linux.remote.machines import machines

from mptcplab.results.run import Run
from mptcplab.scenario import load

pytestmark = [pytest.mark.kernel, pytest.mark.program("sshd"), pytest.mark.slow]

TENTH: Final = ("links.*.rate=100Mb/s", "links.*.queue=100kB", "flows.*.buffer=1MiB")
SETTLE_NS: Final = 900_000_000
TOLERANCE: Final = 0.03
ATTEMPTS: Final = 3


def stage_rates(run: Run) -> list[float]:
    """Return the mean goodput of each stage (bit/s), its beginning left out."""
    cuts = sorted(
        {0, run.scenario["duration_ns"], *(each["at_ns"] for each in run.scenario["timeline"])}
    )
    rows = run.rows("flows")
    rates = []
    for start_ns, end_ns in pairwise(cuts):
        inside = [row for row in rows if start_ns + SETTLE_NS < row["time_ns"] <= end_ns]
        time_ns = sum(row["interval_ns"] for row in inside)
        rates.append(sum(row["bytes"] for row in inside) * 8e9 / time_ns)
    return rates


@pytest.mark.parametrize(("name", "duration"), [("A", "3s"), ("B", "12s")])
def test_hosts_and_namespaces_agree(name: str, duration: str, tmp_path: Path) -> None:
    options = [word for text in TENTH for word in ("--set", text)]
    options += ["--duration", duration, "--interval", "100ms"]
    topology = load(name, overrides=TENTH).topology
    off = []
    with machines(topology, tmp_path) as hosts:
        for attempt in range(ATTEMPTS):
            real, virtual = (tmp_path / f"{where}-{attempt}" for where in ("real", "virtual"))
            done = hosts.run(
                *("run", name, "--on", "hosts", *hosts.options, *options, "--out", str(real))
            )
            assert done.returncode in (0, 1), done.stderr
            command = [sys.executable, "-m", "mptcplab", "run", name, "--on", "linux", *options]
            subprocess.run([*command, "--out", virtual], capture_output=True, timeout=120)
            both = stage_rates(Run(real)), stage_rates(Run(virtual))
            off = [one / other - 1 for one, other in zip(*both, strict=True)]
            if Run(real).metadata["valid"] and all(abs(each) <= TOLERANCE for each in off):
                return
    pytest.fail(f"{off} off; {Run(real).metadata['invalid_reasons']}")

"""The scenario that whole runs of the Linux testbed are tested with: two hosts, two links."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from mptcplab.linux.measure.verify import BUSY
from mptcplab.linux.testbed import run
from mptcplab.results.run import Run
from mptcplab.scenario.load import load
from mptcplab.scenario.model import Scenario

# The flow's section comes last, so that its keys can be appended.
TWO_LINKS = """
duration = "3s"
interval = "250ms"
hosts = ["alice", "bob"]

[links.one]
between = ["alice", "bob"]
rate = "40Mb/s"
queue = "100KB"

[links.two]
between = ["alice", "bob"]
rate = "20Mb/s"
queue = "100KB"

[flows.main]
from = "alice"
to = "bob"
"""


def outage(link: str, down: str, up: str) -> str:
    """A timeline to append: a link that fails and comes back."""
    return "".join(
        f'\n[[timeline]]\nat = "{at}"\n{verb} = "{link}"\n'
        for at, verb in ((down, "down"), (up, "up"))
    )


_LATE = re.compile(r"the (sampler|timeline) was late by up to ")


def scenario(folder: Path, text: str, *overrides: str) -> Scenario:
    """Load a scenario from text."""
    file = folder / "scenario.toml"
    file.write_text(textwrap.dedent(text))
    return load(str(file), overrides=overrides)


def finished(folder: Path, text: str, *overrides: str) -> Run:
    """Run a scenario from text to its end; where the machine was too busy for it, once more."""
    asked = scenario(folder, text, *overrides)
    done = Run(run(asked, folder / "run"))
    busy = lacked_cpu(done) or any(map(_tells_of_lateness, done.metadata["invalid_reasons"]))
    return Run(run(asked, folder / "again")) if busy else done


def carried(done: Run, link: str, bps: float, least_bps: float) -> bool:
    """Whether a link carried enough, or the run says that the CPU was its limit most of the time.

    A busy machine may not fill a link, and says so; what did arrive is another matter.
    """
    limited = re.compile(re.escape(link) + r": the CPU was the limit in (\d+) of (\d+) intervals")
    said = map(limited.match, [*done.metadata["notes"], *done.metadata["invalid_reasons"]])
    return bps > least_bps or any(each and 2 * int(each[1]) >= int(each[2]) for each in said)


def faults(done: Run) -> list[str]:
    """Why a run is invalid, but for what a machine with other work to do did not manage in time.

    These are late emulators, samplers and timelines, and, where all CPUs were busy, links that were
    not full. What was tested is another matter than how fast it was, as for :func:`carried`.
    """
    reasons = [
        reason for reason in done.metadata["invalid_reasons"] if not _tells_of_lateness(reason)
    ]
    if max((share for _, share in done.metadata["cpu_busy"]), default=0.0) < BUSY:
        return reasons
    return [reason for reason in reasons if ": the CPU was the limit in " not in reason]


def _tells_of_lateness(reason: str) -> bool:
    return reason.endswith("; the machine is too busy") or _LATE.match(reason) is not None


def lacked_cpu(done: Run) -> bool:
    """Whether a run found itself invalid while the CPUs were fully busy, its data being intact."""
    busy = max((share for _, share in done.metadata["cpu_busy"]), default=0.0)
    intact = all(flow["intact"] is not False for flow in done.metadata["flows"])
    return bool(done.metadata["invalid_reasons"]) and busy >= BUSY and intact

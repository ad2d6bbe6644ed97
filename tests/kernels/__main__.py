"""Debian's kernels in virtual machines: what each has, and tests that this machine's cannot run.

    python -m tests.kernels [VERSION ...] [--limit SECONDS] [--page]

VERSION is "6.12", or "newest"; see debian.  Exit status 1 where a test failed or a driver's module
is missing, 2 where a kernel is not to be had here, or did not come to its end.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.kernels import machine
from tests.kernels.debian import Apt, NoSuchKernelError
from tests.kernels.inside import DOCTOR, REPORT
from tests.kernels.machine import MachineError, Outcome

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache" / "kernels"
PAGE: Final = ROOT / "docs" / "validation" / "kernels.md"
DEFAULT: Final = "6.12"
LIMIT_S: Final = 300.0

TESTS: Final = (
    "tests/linux/test_links.py::test_vlans_share_their_nics_rate",
    "tests/linux/test_links.py::test_a_pulled_link_leaves_the_other_vlans_of_its_nic_alone",
    "tests/linux/test_lab.py::test_the_reports_testbed_stands_with_its_names",
    "tests/linux/test_netem.py",
)
"""What needs 8021q or netem, and runs within a minute on an emulated processor."""
MODULES: Final = ("netem", "8021q", "ifb", "openvswitch", "sctp")
"""Findings of ``mptcplab doctor`` that each of Debian's kernels must have."""

_OF_THE_MACHINE: Final = (
    "programs'",
    "iperf3",
    "mptcpize",
    "globus-",
    "tshark",
    "tcpdump",
    "SCTP in user space",
)
"""Findings, by how they begin, that say nothing of the kernel."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one kernel: findings and tests by name ("passed", "failed", "skipped")."""

    release: str
    found: Mapping[str, bool]
    tests: Mapping[str, str]
    failures: Mapping[str, str]
    seconds: float
    accelerator: str

    @property
    def good(self) -> bool:
        """Whether all modules are there, and every test passed, or was skipped for a reason."""
        return bool(self.tests) and not self.failures and not self.missing

    @property
    def missing(self) -> list[str]:
        """The modules that are not there."""
        return [name for name in MODULES if not self.found.get(name)]


def judge(release: str, outcome: Outcome) -> Verdict:
    """Read what a machine left; MachineError where that is not all."""
    try:
        found = json.loads(outcome.files[DOCTOR])
        report = ElementTree.fromstring(outcome.files[REPORT])
    except KeyError as error:
        raise MachineError(f"it left no {error.args[0]}") from None
    tests, failures = {}, {}
    for case in report.iter("testcase"):
        name = case.get("name", "")
        if (bad := next((c for c in case if c.tag in ("failure", "error")), None)) is not None:
            failures[name] = bad.text or bad.get("message") or ""
        tests[name] = (
            "failed"
            if bad is not None
            else "skipped"
            if case.find("skipped") is not None
            else "passed"
        )
    return Verdict(release, found, tests, failures, outcome.seconds, outcome.accelerator)


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the table of the documentation: what doctor finds, then the tests, by kernel."""
    releases = [re.split(r"[+-]", verdict.release)[0] for verdict in verdicts]
    rows = [["", *releases], ["---"] * (len(verdicts) + 1)]
    found = dict.fromkeys(name for verdict in verdicts for name in verdict.found)
    for name in (name for name in found if not name.startswith(_OF_THE_MACHINE)):
        rows.append([name, *("yes" if v.found.get(name) else "no" for v in verdicts)])
    for name in dict.fromkeys(name for verdict in verdicts for name in verdict.tests):
        words = name.removeprefix("test_").replace("_", " ")
        rows.append([f"*{words}*", *(v.tests.get(name, "-") for v in verdicts)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def script() -> str:
    """Return what sh runs in the machine."""
    command = machine.python_command("-m", "tests.kernels.inside", *TESTS)
    return f"cd {shlex.quote(str(ROOT))} && PYTHONDONTWRITEBYTECODE=1 {command}\n"


def write_page(verdicts: Sequence[Verdict]) -> None:
    """Renew the table of the page."""
    begin, end = "<!-- measured: kernels -->\n", "<!-- end: kernels -->"
    before, _, rest = PAGE.read_text().partition(begin)
    PAGE.write_text(before + begin + table(verdicts) + end + rest.partition(end)[2])


def main() -> int:
    """Boot the kernels one after the other; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__)
    parser.add_argument("versions", nargs="*", default=[DEFAULT], metavar="VERSION")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that a kernel gets")
    parser.add_argument("--page", action="store_true", help=f"renew {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    if (problem := machine.obstacle()) is not None:
        print(f"kernels: {problem}", file=sys.stderr)
        return 2
    verdicts, status = [], 0
    try:
        apt = Apt(CACHE)
        for package in apt.resolve(options.versions):
            kernel = apt.fetch(package)
            console = CACHE / f"{package}.console"
            print(f"{kernel.release}: booting, at most {options.limit:.0f} s", flush=True)
            verdict = judge(kernel.release, machine.run(kernel, script(), options.limit, console))
            verdicts.append(verdict)
            status = max(status, 0 if verdict.good else 1)
            _say(verdict, console)
    except (NoSuchKernelError, MachineError) as error:
        print(f"kernels: {error}", file=sys.stderr)
        status = 2
    if verdicts:
        print(table(verdicts), end="")
        if options.page:
            write_page(verdicts)
    return status


def _say(verdict: Verdict, console: Path) -> None:
    for name, text in verdict.failures.items():
        print(f"{verdict.release}: {name} failed:\n{text}")
    if verdict.missing:
        print(f"{verdict.release}: missing: {', '.join(verdict.missing)}")
    passed = sum(result == "passed" for result in verdict.tests.values())
    print(
        f"{verdict.release}: {passed} of {len(verdict.tests)} tests passed in "
        f"{verdict.seconds:.0f} s ({verdict.accelerator}; {console.relative_to(ROOT)})",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())

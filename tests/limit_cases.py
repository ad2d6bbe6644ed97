"""Scenarios in which one cause holds a connection back by construction, on both testbeds.

``python -m tests.limit_cases`` prints the table of ``docs/validation/limits.md``: what was built
against what the runs say of it.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mptcplab.limits.causes import Cause, Limit
from mptcplab.limits.runs import run_limits
from mptcplab.linux import testbed as linux
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.simulated import testbed as simulated
from mptcplab.stack.schedulers.base import ConnectionView, Scheduler, SubflowView, has_room

ONE_PATH = """
duration = "4s"
interval = "500ms"
hosts = ["alice", "bob"]

[links.one]
between = ["alice", "bob"]
rate = "40Mb/s"
rtt = "20ms"

[flows.main]
from = "alice"
to = "bob"
"""
"""The sections of flow and timeline come last, so that keys can be appended."""

TWO_PATHS = ONE_PATH.replace(
    "[flows.main]",
    """[links.two]
between = ["alice", "bob"]
rate = "40Mb/s"
rtt = "20ms"

[flows.main]""",
)
NO_DELAY = ONE_PATH.replace('rtt = "20ms"\n', "")
UNLIMITED = NO_DELAY.replace('rate = "40Mb/s"\n', "")


class FirstAlone(Scheduler):
    """A scheduler that leaves every subflow but the first unused."""

    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the first, where it has room."""
        return usable[0] if has_room(usable[0], view) else None


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario, and what holds its connection back most of the time."""

    name: str
    scenario: str
    overrides: tuple[str, ...]
    cause: Cause
    detail: str = ""
    """What the detail of the cause says, among others."""


def _down(at: str) -> str:
    return f'\n[[timeline]]\nat = "{at}"\ndown = "one"\n'


def _silent(until: str) -> str:
    """A timeline in which nothing passes the link at first."""
    return (
        'start = "500ms"\n\n[[timeline]]\nat = "250ms"\nchange = "one"\nloss = "100%"\n'
        f'\n[[timeline]]\nat = "{until}"\nchange = "one"\nloss = "0%"\n'
    )


SIMULATED = (
    Case(
        "a sender that writes 5 Mb/s",
        TWO_PATHS,
        ("flows.main.write_rate=5Mb/s",),
        Cause.APPLICATION,
    ),
    Case(
        "a reader that takes 5 Mb/s",
        TWO_PATHS,
        ("flows.main.read_rate=5Mb/s", "flows.main.receive_buffer=500kB"),
        Cause.RECEIVE_WINDOW,
        "reader is slow",
    ),
    Case(
        "a receive buffer of 64 KiB",
        TWO_PATHS,
        ("flows.main.receive_buffer=64KiB",),
        Cause.RECEIVE_WINDOW,
        "too small",
    ),
    Case(
        "TCP with a receive buffer of 64 KiB",
        ONE_PATH,
        ("flows.main.receive_buffer=64KiB", "flows.main.protocol=tcp"),
        Cause.RECEIVE_WINDOW,
        "too small",
    ),
    Case(
        "a send buffer of 64 KiB", TWO_PATHS, ("flows.main.send_buffer=64KiB",), Cause.SEND_BUFFER
    ),
    Case(
        "1 % loss",
        TWO_PATHS,
        ("links.one.loss=1%", "links.two.loss=1%", "flows.main.congestion=reno"),
        Cause.CONGESTION_WINDOW,
        "congestion avoidance",
    ),
    Case(
        "300 kB over 300 ms",
        ONE_PATH,
        ("links.one.rtt=300ms", "flows.main.size=300kB"),
        Cause.CONGESTION_WINDOW,
        "slow start",
    ),
    Case("two full links", TWO_PATHS, (), Cause.LINK, "full"),
    Case("one full link, TCP", ONE_PATH, ("flows.main.protocol=tcp",), Cause.LINK, "one full"),
    Case(
        "a receiver of 2012 on 10 Gb/s",
        TWO_PATHS,
        (
            "hosts.bob.cpu=2012",
            "links.*.rate=10Gb/s",
            "links.*.rtt=1ms",
            "duration=1s",
            "interval=100ms",
        ),
        Cause.CPU,
        "bob",
    ),
    Case("a link that fails at 1 s", ONE_PATH + _down("1s"), (), Cause.STALLED, "since 1"),
    Case("SYNs lost until 3 s", ONE_PATH + _silent("3s"), ("duration=4s",), Cause.HANDSHAKE),
    Case(
        "round trips of 10 and 200 ms, round robin, a receive buffer of 300 kB",
        TWO_PATHS,
        (
            "links.one.rtt=10ms",
            "links.two.rtt=200ms",
            "flows.main.receive_buffer=300kB",
            "tunables.scheduler=round-robin",
        ),
        Cause.HEAD_OF_LINE,
        "two is slower",
    ),
    Case(
        "a scheduler that leaves a path unused",
        TWO_PATHS,
        ("tunables.scheduler=tests.limit_cases:FirstAlone",),
        Cause.SCHEDULER,
        "not used",
    ),
)

LINUX = (
    Case(
        "a sender that writes 5 Mb/s",
        TWO_PATHS,
        ("flows.main.write_rate=5Mb/s",),
        Cause.APPLICATION,
    ),
    Case(
        "a sender that writes 5 Mb/s, TCP",
        NO_DELAY,
        ("flows.main.write_rate=5Mb/s", "flows.main.protocol=tcp"),
        Cause.APPLICATION,
    ),
    Case(
        "a reader that takes 5 Mb/s",
        NO_DELAY,
        ("flows.main.read_rate=5Mb/s", "flows.main.receive_buffer=500kB"),
        Cause.RECEIVE_WINDOW,
        "reader is slow",
    ),
    Case(
        "a reader that takes 5 Mb/s, TCP",
        NO_DELAY,
        (
            "flows.main.read_rate=5Mb/s",
            "flows.main.receive_buffer=500kB",
            "flows.main.protocol=tcp",
        ),
        Cause.RECEIVE_WINDOW,
        "reader is slow",
    ),
    Case(
        "a receive buffer of 64 KiB",
        ONE_PATH,
        ("flows.main.receive_buffer=64KiB", "links.one.rtt=40ms"),
        Cause.RECEIVE_WINDOW,
        "too small",
    ),
    Case(
        "a send buffer of 64 KiB",
        ONE_PATH,
        ("flows.main.send_buffer=64KiB", "links.one.rtt=40ms"),
        Cause.SEND_BUFFER,
    ),
    Case(
        "1 % loss",
        ONE_PATH,
        ("links.one.loss=1%", "flows.main.congestion=reno"),
        Cause.CONGESTION_WINDOW,
        "congestion avoidance",
    ),
    Case(
        "300 kB over 300 ms",
        ONE_PATH,
        ("links.one.rtt=300ms", "flows.main.size=300kB"),
        Cause.CONGESTION_WINDOW,
        "slow start",
    ),
    Case("one full link", NO_DELAY, (), Cause.LINK, "one full"),
    Case("one full link, TCP", NO_DELAY, ("flows.main.protocol=tcp",), Cause.LINK, "one full"),
    # of TCP: Linux 6.18 often leaves MPTCP waiting for DATA_ACKs on links without delay
    Case("processes that cannot keep up, TCP", UNLIMITED, ("flows.main.protocol=tcp",), Cause.CPU),
    Case("a link that fails at 1 s", NO_DELAY + _down("1s"), (), Cause.STALLED, "since"),
    Case(
        "SYNs lost until 3 s",
        ONE_PATH + _silent("3s"),
        ("duration=4s", "links.one.driver=tap"),
        Cause.HANDSHAKE,
    ),
    Case(
        "round trips of 10 and 200 ms, a receive buffer of 300 kB",
        TWO_PATHS,
        ("links.one.rtt=10ms", "links.two.rtt=200ms", "flows.main.receive_buffer=300kB"),
        Cause.HEAD_OF_LINE,
        "two",
    ),
    Case(
        "our stack, a receive buffer of 64 KiB",
        ONE_PATH,
        (
            "hosts.alice.stack=ours",
            "hosts.bob.stack=ours",
            "flows.main.receive_buffer=64KiB",
            "links.one.rtt=40ms",
        ),
        Cause.RECEIVE_WINDOW,
        "too small",
    ),
)


def finished(case: Case, testbed: str, folder: Path) -> Run:
    """Run a case in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scenario.toml"
    file.write_text(case.scenario)
    scenario = load(str(file), overrides=case.overrides, plugins=True)
    run = simulated.run if testbed == "simulated" else linux.run
    return Run(run(scenario, folder / "run", Silent()))


def leading(run: Run) -> Limit:
    """Return what held the run's one connection back most of the time."""
    (diagnosis,) = run_limits(run)
    return diagnosis.limits[0]


def main(testbeds: list[str]) -> None:
    """Print the rows of the table."""
    for testbed in testbeds or ["simulated", "linux"]:
        print(f"| on {testbed} | built to be | said | of the time | detail |")
        print("|---|---|---|---|---|")
        for case in SIMULATED if testbed == "simulated" else LINUX:
            with tempfile.TemporaryDirectory() as folder:
                said = leading(finished(case, testbed, Path(folder)))
            print(
                f"| {case.name} | {case.cause.value} | {said.cause.value} | {said.share:.0%} "
                f"| {said.detail} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])

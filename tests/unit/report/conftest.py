"""A small run with three stages, made by hand, whose numbers are easy to work out."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.times import SECOND

from mptcplab.network.topology import Channel, Host, Interface, InterfaceEnd, Link, Nic, Topology
from mptcplab.results.run import Run
from mptcplab.results.writer import RunWriter
from mptcplab.scenario.model import Action, Expectation, Finding, Flow, Measured, Report, Scenario
from mptcplab.scenario.to_json import as_plain

MEGABYTE = 1_000_000


def two_links() -> Scenario:
    """Return two 8 Mb/s links; the second goes down at 4 s and comes back at 6 s of 10 s."""
    nics = (Nic("eth0"), Nic("eth1"))
    hosts = tuple(
        Host(name, nics, (Interface("eth0", "eth0"), Interface("eth1", "eth1")))
        for name in ("left", "right")
    )
    channel = Channel(rate_bps=8_000_000)
    links = tuple(
        Link(name, InterfaceEnd("left", device), InterfaceEnd("right", device), channel, channel)
        for name, device in (("one", "eth0"), ("two", "eth1"))
    )
    return Scenario(
        name="tiny",
        title="two small links",
        question="do both carry?",
        duration_ns=10 * SECOND,
        topology=Topology("tiny", hosts, (), links),
        flows=(Flow("main", "left", "right", links=("one", "two")),),
        timeline=(
            Action(4 * SECOND, "down", "two", "link"),
            Action(6 * SECOND, "up", "two", "link", label="two returns"),
        ),
        report=Report(
            "3.3.2",
            (14,),
            (
                Measured(16_000_000, "table 2", stage=0),
                Measured(17_000_000, "table 3", stage=2, kind="capacity"),
            ),
            findings=(Finding("the other link stood idle", "figure 14", stage=2),),
        ),
        expectations=(
            Expectation(16_000_000, stage=0),
            Expectation(8_000_000, stage=1),
            Expectation(16_000_000, stage=2, settle_ns=SECOND),
            Expectation(14_000_000, at_least=True),
        ),
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return the finished run: link two carries nothing from 4 to 7 s."""
    scenario = two_links()
    writer = RunWriter(tmp_path / "run")
    for second in range(1, 11):
        down = 4 < second <= 7
        writer.append(
            "flows",
            [
                {
                    "time_ns": second * SECOND,
                    "interval_ns": SECOND,
                    "flow": "main",
                    "connection": 0,
                    "protocol": "mptcp",
                    "bytes": MEGABYTE if down else 2 * MEGABYTE,
                    "goodput_bps": 8e6 if down else 16e6,
                }
            ],
        )
        for name in ("one", "two"):
            size = 0 if down and name == "two" else MEGABYTE
            for direction, part in (("forward", size), ("backward", size // 50)):
                writer.append(
                    "links",
                    [
                        {
                            "time_ns": second * SECOND,
                            "interval_ns": SECOND,
                            "link": name,
                            "direction": direction,
                            "tx_bytes": part,
                            "bps": part * 8.0,
                        }
                    ],
                )
    writer.metadata(
        {
            "scenario": as_plain(scenario),
            "testbed": "linux",
            "measured_ns": 10 * SECOND,
            "wall_s": 10.5,
            "drivers": {"one": "kernel", "two": "tap"},
            "flows": [
                {
                    "flow": "main",
                    "connection": 0,
                    "protocol": "mptcp",
                    "bytes": 17 * MEGABYTE,
                    "intact": True,
                }
            ],
        }
    )
    return Run(writer.finish(valid=True))

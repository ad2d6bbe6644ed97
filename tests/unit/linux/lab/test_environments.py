"""Appendix D of the report: what its script sets up on a host, by environment and speed."""

from __future__ import annotations

from typing import Any

import pytest

from mptcplab.linux.lab.environments import parse_speed, switched
from mptcplab.scenario import load_topology
from mptcplab.units import UnitError

# What remains up of bliksem's VLANs at the end of the script, and of donder's, which is the same.
SCRIPT = {
    ("lan", None): "1001 520 1000 522",
    ("lan", "10"): "1001 1000",
    ("lan", "1"): "520 522",
    ("wan", None): "516 514 518",
    ("wan", "2"): "516 518",
    ("all", None): "1001 520 1000 522 516 514 518",
    ("all", "10"): "1001 1000 514",
    ("all", "1"): "520 522 516 518",
}


def links() -> list[dict[str, Any]]:
    return [
        {
            "name": str(link.a).partition(":")[2],
            "environment": link.environment,
            "rate_bps": link.forward.rate_bps,
            "spare": link.spare,
        }
        for link in load_topology("report").links
        if str(link.a).startswith("bliksem:")
    ]


@pytest.mark.parametrize(("environment", "speed"), SCRIPT)
def test_what_is_up_is_what_the_script_leaves_up(environment: str, speed: str | None) -> None:
    wanted = switched(links(), environment, parse_speed(speed))
    up = {name.partition(".")[2] for name, state in wanted.items() if state}
    assert up == set(SCRIPT[environment, speed].split())
    assert "eth0" not in wanted, "management stays as it is"
    assert len(wanted) == 8, "and all else is set down"


def test_a_rate_stands_for_itself() -> None:
    wanted = switched(links(), "all", parse_speed("300Mb/s"))
    assert [name for name, up in wanted.items() if up] == ["eth2.518"]


@pytest.mark.parametrize("text", ["7", "fast", ""])
def test_a_speed_that_is_none(text: str) -> None:
    with pytest.raises(UnitError):
        parse_speed(text)

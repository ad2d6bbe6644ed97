"""Links of different MTUs behind routers on this kernel: its own TCP, and ours on a TUN device.

``tests/simulated/test_path_mtu.py`` runs the same scenarios in simulation.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.linux.two_links import faults
from tests.path_mtu_cases import (
    BLACK_HOLE,
    BOTH_WAYS,
    NARROW,
    UNREACHABLE,
    last_subflows,
    sent_mss,
)

from mptcplab.limits.runs import run_limits
from mptcplab.linux.testbed import run
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario.load import load

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def measured(tmp_path: Path, text: str, *overrides: str) -> Run:
    file = tmp_path / "case.toml"
    file.write_text(text)
    scenario = load(str(file), overrides=("duration=2s", *overrides))
    return Run(run(scenario, tmp_path / "run", Silent()))


def counted(done: Run, host: str, counter: str) -> int:
    return sum(
        row["after"] - row["before"]
        for row in done.rows("counters")
        if (row["host"], row["counter"]) == (host, counter)
    )


@pytest.mark.parametrize("stack", ["kernel", "ours"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_flow_finds_the_mtu_of_its_way(tmp_path: Path, stack: str, family: str) -> None:
    done = measured(tmp_path, NARROW, f"hosts.a.stack={stack}", f'families=["{family}"]')
    headers, counter = (40, "IcmpInDestUnreachs") if family == "ipv4" else (60, "Icmp6InPktTooBigs")
    assert sent_mss(done, "a") == {1280 - headers - 12}
    assert counted(done, "a", counter) >= 1
    assert sum(end["bytes"] for end in done.metadata["flows"]) > 1_000_000


def test_errors_get_to_the_kernel_through_emulated_links_and_nats(tmp_path: Path) -> None:
    text = BOTH_WAYS.replace('"isp", "cell"', '"isp"').replace(
        'routers = ["isp", "core"]', "[routers]\nisp = {}\ncore = {}"
    )
    text = text.replace("[links]", '[routers.cell]\nmiddleboxes = "nat"\n[links]')
    done = measured(tmp_path, text)
    assert {row["link"]: row["mss_bytes"] for row in last_subflows(done, "server")} == {
        "wifi": 1448,  # of which a DSS takes up to 28
        "lte": 1388,
    }


def test_a_box_that_drops_icmp_makes_a_black_hole(tmp_path: Path) -> None:
    """The kernel does not probe (net.ipv4.tcp_mtu_probing = 0): it stalls, and so does ours."""
    done = measured(tmp_path, BLACK_HOLE)
    assert sum(end["bytes"] for end in done.metadata["flows"]) == 0
    assert sent_mss(done, "a") == {1448}
    (diagnosis,) = run_limits(done)
    assert "path-MTU black hole: narrow takes 1280 bytes" in diagnosis.limits[0].detail


@pytest.mark.parametrize("stack", ["kernel", "ours"])
def test_a_router_without_a_route_ends_the_attempt(tmp_path: Path, stack: str) -> None:
    done = measured(tmp_path, UNREACHABLE, f"hosts.a.stack={stack}")
    assert not faults(done)
    closed = [
        row["detail"]
        for row in done.rows("events")
        if row["event"] == "subflow-closed" and row["host"] == "a" and row["subflow"] == 1
    ]
    assert closed
    assert ("EHOSTUNREACH" if stack == "kernel" else "unreachable") in closed[0]
    assert counted(done, "a", "IcmpInDestUnreachs") >= 1

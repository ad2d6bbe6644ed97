"""Links of different MTUs behind routers, in simulation: our TCP finds out what the kernel's does.

``tests/linux/test_path_mtu.py`` runs the same scenarios on the kernel.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.path_mtu_cases import (
    BLACK_HOLE,
    BOTH_WAYS,
    NARROW,
    UNREACHABLE,
    last_subflows,
    sent_mss,
)

from mptcplab.limits.runs import run_limits
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.simulated.testbed import run


def simulate(tmp_path: Path, text: str, *overrides: str) -> Run:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    return Run(run(load(str(file), overrides=overrides), folder, Silent()))


def delivered_bytes(done: Run) -> int:
    return sum(end["bytes"] for end in done.metadata["flows"])


def counters(done: Run) -> dict[tuple[str, str], int]:
    return {
        (row["host"], row["counter"]): row["after"] - row["before"] for row in done.rows("counters")
    }


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
def test_a_flow_finds_the_mtu_of_its_way(tmp_path: Path, protocol: str, family: str) -> None:
    done = simulate(tmp_path, NARROW, f"flows.main.protocol={protocol}", f'families=["{family}"]')
    assert done.metadata["valid"], done.metadata["invalid_reasons"]
    headers = 40 if family == "ipv4" else 60
    options = 12 if protocol == "tcp" else 40
    assert sent_mss(done, "a") == {1280 - headers - options}
    assert sent_mss(done, "b") == {1500 - headers - options}
    told = "IcmpInDestUnreachs" if family == "ipv4" else "Icmp6InPktTooBigs"
    assert counters(done)["a", told] >= 1
    whole = simulate(
        tmp_path, NARROW.replace("mtu = 1280", "mtu = 1500"), f"flows.main.protocol={protocol}"
    )
    assert not counters(whole)
    assert delivered_bytes(done) > 0.93 * delivered_bytes(whole)


def test_each_subflow_has_the_segments_of_its_own_way(tmp_path: Path) -> None:
    done = simulate(tmp_path, BOTH_WAYS)
    assert done.metadata["valid"], done.metadata["invalid_reasons"]
    by_link = {row["link"]: row["mss_bytes"] for row in last_subflows(done, "server")}
    assert by_link == {"wifi": 1420, "lte": 1360}


def test_the_error_gets_back_through_a_nat(tmp_path: Path) -> None:
    """Both about what leaves from behind it, and about what comes in for there."""
    behind = BOTH_WAYS.replace('"isp", "cell"', '"isp"').replace(
        "[links]", '[routers.cell]\nmiddleboxes = "nat"\n[links]'
    )
    behind = behind.replace('routers = ["isp", "core"]', "[routers]\nisp = {}\ncore = {}")
    download = simulate(tmp_path, behind)
    assert {row["link"]: row["mss_bytes"] for row in last_subflows(download, "server")} == {
        "wifi": 1420,
        "lte": 1360,
    }
    upload = simulate(tmp_path, behind, "flows.main.from=phone", "flows.main.to=server")
    assert {row["link"]: row["mss_bytes"] for row in last_subflows(upload, "phone")} == {
        "wifi": 1420,
        "lte": 1360,
    }


def test_a_narrow_link_inside_a_nat(tmp_path: Path) -> None:
    """The router that translates refuses what comes in, and quotes it as it was outside."""
    text = """
duration = "3s"
hosts = ["phone", "inner", "server"]
routers = { home = {}, gate = { middleboxes = [{ kind = "nat", outside = "dsl" }] }, isp = {} }
[links]
wifi = { between = ["phone", "home"], rate = "20Mb/s", rtt = "10ms" }
tunnel = { between = ["home", "gate"], rate = "100Mb/s", mtu = 1400 }
spare = { between = ["inner", "home"], rate = "20Mb/s" }
dsl = { between = ["gate", "isp"], rate = "100Mb/s" }
last = { between = ["isp", "server"], rate = "1Gb/s" }
[flows]
main = { from = "server", to = "phone", client = "phone" }
"""
    done = simulate(tmp_path, text)
    assert sent_mss(done, "server") == {1400 - 80}
    assert delivered_bytes(done) * 8 / 3 > 15e6


def test_a_box_that_drops_icmp_makes_a_black_hole_and_is_named(tmp_path: Path) -> None:
    done = simulate(tmp_path, BLACK_HOLE)
    assert delivered_bytes(done) == 0
    assert sent_mss(done, "a") == {1448}
    assert not counters(done)
    (diagnosis,) = run_limits(done)
    assert diagnosis.limits[0].cause.value == "stalled"
    assert "path-MTU black hole: narrow takes 1280 bytes" in diagnosis.limits[0].detail
    assert diagnosis.remedy.overrides == ("tunables.mss=1240",)
    cured = simulate(tmp_path, BLACK_HOLE, *diagnosis.remedy.overrides)
    assert delivered_bytes(cured) * 8 / 4 > 15e6


def test_losses_on_a_wide_way_are_no_black_hole(tmp_path: Path) -> None:
    text = BLACK_HOLE.replace("mtu = 1280", "loss = 1.0")
    (diagnosis,) = run_limits(simulate(tmp_path, text))
    assert "black hole" not in " ".join(limit.detail for limit in diagnosis.limits)


def test_a_router_without_a_route_ends_the_attempt(tmp_path: Path) -> None:
    done = simulate(tmp_path, UNREACHABLE)
    assert done.metadata["valid"], done.metadata["invalid_reasons"]
    attempts = [
        (row["event"], row["detail"], row["time_ns"])
        for row in done.rows("events")
        if row["subflow"] == 1
    ]
    assert [event for event, _, _ in attempts] == ["subflow-opening", "subflow-closed"]
    assert attempts[1][1] == "reason unreachable"
    assert attempts[1][2] - attempts[0][2] < 30_000_000
    assert counters(done)["a", "IcmpInDestUnreachs"] >= 1


def test_a_host_without_a_route_knows_at_once(tmp_path: Path) -> None:
    """No router is beside its interface: the attempt fails before anything is sent."""
    text = UNREACHABLE.replace(
        'r1 = { routes = { "10.9.2.0/24" = "unreachable" } }', "r1 = {}"
    ).replace('other = { between = ["r2", "b:eth1"]', 'other = { between = ["c", "b:eth1"]')
    done = simulate(tmp_path, text.replace("a = {}", "a = {}\nc = {}"))
    assert done.metadata["valid"], done.metadata["invalid_reasons"]
    assert not [row for row in done.rows("links") if row["link"] == "other" and row["tx_packets"]]

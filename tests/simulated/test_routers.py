"""Simulated networks of routers: who shares which link, and which ways ports take."""

from __future__ import annotations

from pathlib import Path

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.simulated.testbed import run

PHONE = """
duration = "4s"
hosts = ["phone", "server", "other"]
routers = ["isp", "cell", "core"]
[links]
wifi = { between = ["phone", "isp"], rate = "20Mb/s", rtt = "20ms" }
lte = { between = ["phone", "cell"], rate = "10Mb/s", rtt = "50ms" }
isp-core = { between = ["isp", "core"], rate = "100Mb/s" }
cell-core = { between = ["cell", "core"], rate = "100Mb/s" }
dc = { between = ["core", "server"], rate = "1Gb/s" }
other = { between = ["other", "isp"], rate = "50Mb/s", rtt = "20ms" }
[flows]
main = { from = "server", to = "phone", client = "phone" }
"""
RING = """
duration = "4s"
hosts = ["a", "b"]
tunables = { ndiffports = 6 }
routers = { r1 = { ecmp = "ports" }, r2 = {}, r3 = {}, r4 = {} }
[links]
a = { between = ["a", "r1"], rate = "1Gb/s" }
b = { between = ["b", "r3"], rate = "1Gb/s" }
l12 = { between = ["r1", "r2"], rate = "10Mb/s", rtt = "10ms" }
l23 = { between = ["r2", "r3"], rate = "10Mb/s" }
l34 = { between = ["r3", "r4"], rate = "10Mb/s" }
l41 = { between = ["r4", "r1"], rate = "10Mb/s", rtt = "10ms" }
[flows]
main = { from = "a", to = "b" }
"""


def simulate(tmp_path: Path, text: str, *overrides: str) -> Run:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    return Run(run(load(str(file), overrides=overrides), folder, Silent()))


def delivered_bps(finished: Run, flow: str) -> float:
    (end,) = (each for each in finished.metadata["flows"] if each["flow"] == flow)
    return float(end["bytes"]) * 8 / 4


def test_a_phone_uses_both_accesses_to_a_server_with_one_address(tmp_path: Path) -> None:
    finished = simulate(tmp_path, PHONE)
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    assert delivered_bps(finished, "main") > 24e6
    named = {row["link"] for row in finished.table("subflows").to_pylist()}
    assert named == {"wifi", "lte"}


def test_flows_of_two_clients_share_the_link_that_both_pass(tmp_path: Path) -> None:
    text = PHONE.replace('"isp", "core"], rate = "100Mb/s"', '"isp", "core"], rate = "20Mb/s"')
    both = text + 'second = { from = "server", to = "other", protocol = "tcp" }\n'
    finished = simulate(tmp_path, both, "flows.main.protocol=tcp")
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    total = delivered_bps(finished, "main") + delivered_bps(finished, "second")
    assert 16e6 < total < 20e6


def test_subflows_of_different_ports_take_both_ways_of_a_ring(tmp_path: Path) -> None:
    finished = simulate(tmp_path, RING)
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    assert delivered_bps(finished, "main") > 14e6
    by_addresses = simulate(tmp_path, RING, "routers.r1.ecmp=addresses")
    assert delivered_bps(by_addresses, "main") < 10e6


def test_a_run_repeats_itself(tmp_path: Path) -> None:
    one, again = (simulate(tmp_path, RING) for _ in range(2))
    assert one.table("links").equals(again.table("links"))


def test_a_run_with_explicit_routes_says_which(tmp_path: Path) -> None:
    finished = simulate(
        tmp_path,
        PHONE.replace(
            'routers = ["isp", "cell", "core"]',
            'routers = { isp = { routes = { server = "core" } }, cell = {}, core = {} }',
        ),
    )
    (router,) = (each for each in finished.scenario["topology"]["routers"] if each["name"] == "isp")
    assert [route["via"] for route in router["routes"]] == [["core"]]


def test_a_link_that_fails_beyond_a_router_is_told_to_no_host(tmp_path: Path) -> None:
    outage = 'timeline = [{ at = "1s", down = "isp-core" }, { at = "2500ms", up = "isp-core" }]\n'
    finished = simulate(tmp_path, outage + PHONE)
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    events = finished.table("events").to_pylist()
    closed = [each for each in events if each["event"] == "subflow-closed"]
    assert all(each["time_ns"] > 4 * 10**9 for each in closed)  # as the run is over
    rows = finished.table("links").to_pylist()
    moved = {
        link: sum(
            row["tx_bytes"]
            for row in rows
            if row["link"] == link
            and row["direction"] == "backward"
            and row["time_ns"] == 2 * 10**9
        )
        for link in ("wifi", "lte")
    }
    assert moved["lte"] > 800_000
    assert moved["wifi"] <= 100 * 1514  # what waited in its queue of 100 frames

"""Scenarios on the simulated testbed, on small links so that they take little time."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.times import SECOND

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.summary import Rates, completion_ns, summarise
from mptcplab.results.tables import TABLES
from mptcplab.scenario import load
from mptcplab.simulated.testbed import UnsupportedError, run

TWO_LINKS = """
title = "two links of 20 Mb/s"
question = "?"
duration = "8s"
hosts = ["alice", "bob"]

[links.one]
between = ["alice", "bob"]
rate = "20Mb/s"
rtt = "10ms"
queue = "50 packets"

[links.two]
between = ["alice", "bob"]
rate = "20Mb/s"
rtt = "10ms"
queue = "50 packets"

[flows.main]
from = "alice"
to = "bob"
congestion = "reno"
"""


def simulate(tmp_path: Path, text: str, *overrides: str, seed: int | None = None) -> Run:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    scenario = load(str(file), overrides=overrides, seed=seed)
    folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    return Run(run(scenario, folder, Silent()))


@pytest.mark.slow
def test_both_links_are_filled_and_every_byte_arrives(tmp_path: Path) -> None:
    finished = simulate(tmp_path, TWO_LINKS)
    summary = summarise(finished)
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    assert summary["flows"][0]["intact"] is True
    assert summary["flows"][0]["protocol"] == "mptcp"
    # 1428 of 1514 bytes of a full frame are payload
    assert Rates(finished).of("total", 2 * SECOND, 8 * SECOND) == pytest.approx(37.6e6, rel=0.03)
    assert {link["driver"] for link in summary["links"]} == {"model"}


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "used"), [("2012", True), ("own-windows", False)])
def test_windows_of_subflows_leave_the_old_link_idle_as_in_2012(
    tmp_path: Path, scheduler: str, used: bool
) -> None:
    """Figure 14: after the return of the first link, only that one carries traffic."""
    scenario = load("B", duration_ns=4 * SECOND, overrides=(f"tunables.scheduler={scheduler}",))
    finished = Run(run(scenario, tmp_path / "run", Silent()))
    start_ns, end_ns = scenario.stages()[3]
    rates = Rates(finished).links_bps((start_ns + end_ns) // 2, end_ns)
    assert rates["link6"] > 0.9e9
    assert (rates["link5"] > 0.5e9) == used
    assert used or rates["link5"] < 1e6


@pytest.mark.slow
@pytest.mark.parametrize("version", [0, 1])
def test_either_version_of_the_protocol_is_spoken(tmp_path: Path, version: int) -> None:
    """Version 0 (RFC 6824) has a key in MP_CAPABLE's SYN, version 1 (RFC 8684) has none."""
    finished = simulate(
        tmp_path,
        TWO_LINKS,
        "duration=2s",
        f"tunables.version={version}",
        'captures=["bob:eth0"]',
        "snaplen=128",
    )
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    assert max(row["subflows"] for row in finished.rows("connections")) == 2
    (capture,) = finished.folder.glob("*.pcapng")
    data = capture.read_bytes()
    # subtype 0 and the version share a byte; the SYN of version 0 carries the sender's key
    assert (b"\x1e\x0c\x00" if version == 0 else b"\x1e\x04\x01") in data


@pytest.mark.slow
def test_no_sample_straddles_an_action(tmp_path: Path) -> None:
    """A stage's rate is what was measured in it, wherever the samples of intervals fall."""
    text = TWO_LINKS.replace('"8s"', '"5s"') + '[[timeline]]\nat = "2.7s"\ndown = "one"\n'
    finished = simulate(tmp_path, text)
    for table in ("flows", "links"):
        rows = finished.rows(table)
        at_ns = {row["time_ns"] for row in rows}
        assert at_ns == {1 * SECOND, 2 * SECOND, 27 * SECOND // 10} | {
            n * SECOND for n in (3, 4, 5)
        }
        assert {row["interval_ns"] for row in rows if row["time_ns"] == 3 * SECOND} == {
            3 * SECOND // 10
        }
    ahead = [row for row in finished.rows("links") if row["time_ns"] == 27 * SECOND // 10]
    assert all(row["up"] for row in ahead), "the sample is of the stage that ends"
    _, after = summarise(finished)["stages"]
    assert after["links"]["one"] == 0


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    lossy = ("links.*.loss=0.1%", "duration=3s")
    first, second = (simulate(tmp_path, TWO_LINKS, *lossy) for _ in range(2))
    other = simulate(tmp_path, TWO_LINKS, *lossy, seed=2)
    for table in TABLES:
        name = f"{table}.parquet"
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    assert first.rows("flows") != other.rows("flows")


@pytest.mark.slow
def test_a_link_that_fails_loses_nothing_and_is_used_again(tmp_path: Path) -> None:
    text = (
        TWO_LINKS + '[[timeline]]\nat = "3s"\ndown = "one"\n[[timeline]]\nat = "5s"\nup = "one"\n'
    )
    finished = simulate(tmp_path, text)
    rates = Rates(finished)
    down, back = rates.links_bps(4 * SECOND, 5 * SECOND), rates.links_bps(6 * SECOND, 8 * SECOND)
    assert finished.metadata["valid"]
    assert down["one"] == 0
    assert down["two"] == pytest.approx(20e6, rel=0.02)
    assert min(back.values()) > 18e6
    said = [(row["source"], row["event"]) for row in finished.rows("events")]
    assert ("timeline", "down") in said
    assert ("mptcp", "subflow-closed") in said


@pytest.mark.slow
def test_the_kernels_path_manager_goes_on_when_the_link_returns(tmp_path: Path) -> None:
    text = (
        TWO_LINKS + '[[timeline]]\nat = "1s"\ndown = "one"\n[[timeline]]\nat = "5s"\nup = "one"\n'
    )
    finished = simulate(tmp_path, text, "tunables.path_manager=kernel", "duration=12s")
    assert finished.metadata["valid"]
    events = [
        row["event"]
        for row in finished.rows("events")
        if row["host"] == "alice" and row["subflow"] == 0
    ]
    assert events.count("subflow-stale") == 2  # stale, and back in use
    assert "subflow-closed" not in events[: events.index("subflow-stale")]
    rates = Rates(finished)
    # the retransmission waits for the neighbour, not for the timer that has backed off
    assert rates.links_bps(5 * SECOND, 6 * SECOND)["one"] > 15e6
    assert rates.links_bps(11 * SECOND, 12 * SECOND)["one"] > 18e6


@pytest.mark.slow
def test_plain_tcp_takes_one_link(tmp_path: Path) -> None:
    finished = simulate(tmp_path, TWO_LINKS, "flows.main.protocol=tcp")
    rates = Rates(finished).links_bps(0, 8 * SECOND)
    assert rates["two"] == 0
    assert summarise(finished)["flows"][0]["protocol"] == "tcp"


@pytest.mark.slow
def test_striped_connections_share_one_size_over_all_links(tmp_path: Path) -> None:
    finished = simulate(
        tmp_path,
        TWO_LINKS,
        "flows.main.application=striped",
        "flows.main.protocol=tcp",
        "flows.main.connections=2",
    )
    assert min(Rates(finished).links_bps(2 * SECOND, 8 * SECOND).values()) > 18e6


@pytest.mark.slow
@pytest.mark.parametrize("returns", ["one", "two"])
def test_a_connection_goes_on_over_the_first_of_its_links_to_return(
    tmp_path: Path, returns: str
) -> None:
    gone = 'timeline = [{ at = "2s", down = ["one", "two"] }, { at = "4s", up = "%s" }]'
    text = TWO_LINKS.replace("hosts =", gone % returns + "\nhosts =", 1)
    finished = simulate(tmp_path, text)
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    assert Rates(finished).of("total", 5 * SECOND, 8 * SECOND) == pytest.approx(18.8e6, rel=0.05)


def test_a_download_is_the_servers_data(tmp_path: Path) -> None:
    finished = simulate(tmp_path, TWO_LINKS, "flows.main.client=bob", "duration=4s")
    assert finished.metadata["valid"]
    backward = [row for row in finished.rows("links") if row["direction"] == "forward"]
    assert sum(row["tx_bytes"] for row in backward) > 10_000_000


@pytest.mark.slow
def test_a_size_ends_the_flow_before_the_scenario_does(tmp_path: Path) -> None:
    finished = simulate(tmp_path, TWO_LINKS, "flows.main.size=5MB")
    (end,) = finished.metadata["flows"]
    assert end["bytes"] == 5_000_000
    assert end["intact"] is True
    assert end["end_ns"] < 3 * SECOND


@pytest.mark.slow
def test_without_mptcp_at_a_host_the_run_is_not_what_was_asked_for(tmp_path: Path) -> None:
    finished = simulate(tmp_path, TWO_LINKS, "hosts.bob.tunables.enabled=false", "duration=2s")
    protocol = summarise(finished)["flows"][0]["protocol"]
    assert protocol == "fallback"
    assert finished.metadata["valid"] is False
    assert "fell back" in finished.metadata["invalid_reasons"][0]


def test_a_congestion_control_it_does_not_have_is_refused_before_anything_starts(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnsupportedError, match=r"flows\.main\.congestion"):
        simulate(tmp_path, TWO_LINKS, "flows.main.congestion=vegas")
    assert [path.name for path in tmp_path.iterdir()] == ["scenario.toml"]


def test_a_capture_has_every_packet_of_its_interface(tmp_path: Path) -> None:
    finished = simulate(
        tmp_path, TWO_LINKS, 'captures=["alice:eth0"]', "duration=1s", "flows.main.size=200kB"
    )
    capture = finished.folder / "alice.pcapng"
    assert capture.stat().st_size > 10_000


def test_the_end_of_a_short_flow_follows_its_data_at_once(tmp_path: Path) -> None:
    finished = simulate(tmp_path, TWO_LINKS, "flows.main.size=1kB", "duration=2s")
    (flow,) = finished.scenario["flows"]
    took_ns = completion_ns(finished, flow)
    # SYN and SYN/ACK, then data and behind them the DATA_FIN, as Linux: one and a half round trips
    assert took_ns is not None
    assert took_ns == pytest.approx(15_000_000, abs=2_000_000)
    (summed,) = summarise(finished)["flows"]
    assert summed["goodput_bps"] == pytest.approx(8000 * SECOND / took_ns)


@pytest.mark.slow
@pytest.mark.parametrize("sender", ["alice", "bob"])
def test_links_share_the_rate_of_their_nic(tmp_path: Path, sender: str) -> None:
    text = """
    duration = "6s"
    hosts.alice.nics = { eth0 = "10Mb/s" }
    hosts.alice.interfaces = { "eth0.1" = "10.1.0.1/24", "eth0.2" = "10.2.0.1/24" }
    hosts.bob.interfaces = { eth1 = "10.1.0.2/24", eth2 = "10.2.0.2/24" }
    # Lowest round trip first fills the NIC's queue with runs of one link's packets, half a second
    # long: behind it, the slower link needs room for a fifth of a run.
    links.one.between = ["alice:eth0.1", "bob:eth1"]
    links.one.rate = "8Mb/s"
    links.one.queue = "1MB"
    links.one.rtt = "10ms"
    links.two = { between = ["alice:eth0.2", "bob:eth2"], rtt = "10ms" }
    flows.main = { from = "SENDER", to = "RECEIVER" }
    """
    other = {"alice": "bob", "bob": "alice"}[sender]
    finished = simulate(tmp_path, text.replace("SENDER", sender).replace("RECEIVER", other))
    assert finished.metadata["valid"]
    carried = Rates(finished).links_bps(2 * SECOND, 6 * SECOND)
    assert sum(carried.values()) == pytest.approx(10e6, rel=0.03 if sender == "alice" else 0.2)
    assert Rates(finished).of("total", 2 * SECOND, 6 * SECOND) == pytest.approx(9.4e6, rel=0.05)


@pytest.mark.slow
def test_nothing_is_sent_twice_where_a_window_takes_longer_than_the_round_trip(
    tmp_path: Path,
) -> None:
    """Two round trips of such a link are over before the window's last segment is out."""
    finished = simulate(
        tmp_path, TWO_LINKS, "links.*.rtt=10us", "links.*.queue=1MB", "flows.main.size=200kB"
    )
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    assert max(row["bytes_acked"] for row in finished.rows("subflows")) > 50_000
    assert not any(row["retransmissions"] for row in finished.rows("subflows"))

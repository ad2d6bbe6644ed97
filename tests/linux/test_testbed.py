"""Whole runs on the running kernel: short, on links of some ten Mb/s."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tests.linux.two_links import TWO_LINKS, carried, faults, finished, outage, scenario

from mptcplab.linux.drivers import kernel, tap
from mptcplab.linux.drivers.driver import LinkDriver
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.topology import Channel
from mptcplab.results.run import Run

pytestmark = pytest.mark.kernel

BUFFERED = TWO_LINKS + 'buffer = "1MiB"\n'
OUTAGE = outage("one", "2s", "3.5s")


def by_link(finished: Run) -> dict[str, int]:
    sent: dict[str, int] = defaultdict(int)
    for row in finished.rows("links"):
        sent[row["link"]] += row["tx_bytes"]
    return sent


@pytest.mark.slow
def test_a_run_fills_every_table(tmp_path: Path) -> None:
    done = finished(tmp_path, BUFFERED)
    assert faults(done) == []
    [flow] = done.metadata["flows"]
    assert flow["protocol"] == "mptcp"
    assert flow["intact"] is True
    assert done.metadata["drivers"] == {"one": "kernel", "two": "kernel"}
    sent = by_link(done)
    for link, rate_bps in (("one", 40e6), ("two", 20e6)):
        sent_bps = sent[link] * 8 / 3
        assert carried(done, link, sent_bps, 0.5 * rate_bps)
        assert sent_bps < 1.1 * rate_bps
    rows = done.rows("flows")
    assert len(rows) == 12
    # bytes that were still on their way at the end came while it drained
    assert 0 <= flow["bytes"] - sum(row["bytes"] for row in rows) < 3_000_000
    subflows = done.rows("subflows")
    assert {(row["host"], row["link"]) for row in subflows} == {
        (host, link) for host in ("alice", "bob") for link in ("one", "two")
    }
    assert all(row["cwnd_bytes"] > 0 for row in subflows)
    connections = done.rows("connections")
    assert {row["send_buffer_bytes"] for row in connections} == {1 << 20}
    assert {row["receive_buffer_bytes"] for row in connections} == {1 << 20}
    names = {row["event"] for row in done.rows("events")}
    assert {"established", "subflow-established", "receiver-done"} <= names
    assert any(row["counter"] == "MPTcpExtMPJoinSynTx" for row in done.rows("counters"))
    assert any(row["rtt_ns"] for row in done.rows("links"))
    assert {file.suffix for file in done.folder.iterdir()} == {".json", ".parquet"}


def carrying_subflows(done: Run, host: str, link: str) -> list[int]:
    """Return how many established subflows a link had, sample by sample."""
    counts: dict[int, int] = {row["time_ns"]: 0 for row in done.rows("subflows")}
    for row in done.rows("subflows"):
        if (row["host"], row["link"], row["state"]) == (host, link, "ESTABLISHED"):
            counts[row["time_ns"]] += 1
    return list(counts.values())


@pytest.mark.slow
def test_the_link_aware_path_manager_uses_a_link_that_returns_at_once(tmp_path: Path) -> None:
    done = finished(tmp_path, BUFFERED + OUTAGE, "duration=7s")
    assert faults(done) == []
    [event] = [row for row in done.rows("events") if row["event"] == "link-carries"]
    assert event["link"] == "one"
    assert 3.5e9 < event["time_ns"] < 4.5e9
    assert max(carrying_subflows(done, "alice", "one")) == 1
    down = [row for row in done.rows("links") if row["link"] == "one" and not row["up"]]
    assert down
    for link, rate in (("one", 40e6), ("two", 20e6)):
        rows = [row for row in done.rows("links") if row["time_ns"] > 5.5e9]
        at_end = [
            row["bps"] for row in rows if (row["link"], row["direction"]) == (link, "forward")
        ]
        assert carried(done, link, sum(at_end) / len(at_end), 0.4 * rate)
    assert done.metadata["flows"][0]["intact"] is True


@pytest.mark.slow
def test_links_that_fail_together_are_all_used_when_they_return(tmp_path: Path) -> None:
    # what the kernel tells the peer of one may go out on the other
    text = BUFFERED + textwrap.dedent(
        """
        [links.three]
        between = ["alice", "bob"]
        rate = "20Mb/s"

        [[timeline]]
        at = "1.5s"
        down = ["one", "two"]

        [[timeline]]
        at = "2s"
        up = ["one", "two"]
        """
    )
    done = finished(tmp_path, text, "duration=5s")
    late = [row for row in done.rows("links") if row["time_ns"] > 4_000_000_000]
    for link in ("one", "two", "three"):
        carried = [row["tx_bytes"] for row in late if row["link"] == link]
        assert sum(carried) > 100_000, link


@pytest.mark.slow
def test_the_kernels_path_manager_is_left_alone_and_the_wait_is_shown(tmp_path: Path) -> None:
    done = finished(tmp_path, BUFFERED + OUTAGE, "duration=7s", "tunables.path_manager=kernel")
    events = done.rows("events")
    assert not [row for row in events if row["source"] == "path-manager"]
    [wait] = [row for row in events if row["event"] in ("link-carries", "link-idle")]
    assert "since it came up" in wait["detail"] or "after it came up" in wait["detail"]
    # the subflow is the one of before: nothing was closed, nothing joined
    assert [row["event"] for row in events if row["event"] == "subflow-closed"] == []
    assert done.metadata["path_manager"] == {"alice": "kernel", "bob": "kernel"}


@pytest.mark.slow
def test_downloads_and_parallel_connections(tmp_path: Path) -> None:
    done = finished(tmp_path, BUFFERED, "flows.main.client=bob", "flows.main.connections=2")
    assert faults(done) == []
    assert [flow["intact"] for flow in done.metadata["flows"]] == [True, True]
    assert {row["connection"] for row in done.rows("flows")} == {0, 1}


@pytest.mark.slow
def test_subflows_to_further_ports_of_the_server_are_the_connections(tmp_path: Path) -> None:
    """``ndiffports``: the server announces ports, on which no flow of its own listens."""
    done = finished(tmp_path, BUFFERED, "tunables.ndiffports=4")
    assert faults(done) == []
    rows = [row for row in done.rows("subflows") if row["host"] == "alice"]
    assert {row["subflow"] for row in rows} == {0, 1, 2, 3}
    assert {row["link"] for row in rows} == {"one"}
    assert len({row["remote"] for row in rows}) == 4
    events = [row for row in done.rows("events") if row["event"] == "subflow-established"]
    assert {row["subflow"] for row in events if row["host"] == "bob"} >= {1, 2, 3}


@pytest.mark.slow
def test_ipv6_and_ipv4_in_one_connection(tmp_path: Path) -> None:
    done = finished(tmp_path, BUFFERED, "links.two.families=ipv6")
    assert faults(done) == []
    locals_ = {row["local"] for row in done.rows("subflows") if row["host"] == "alice"}
    assert {name.startswith("[") for name in locals_} == {True, False}


@pytest.mark.slow
def test_a_file_is_striped_over_both_links(tmp_path: Path) -> None:
    done = finished(
        tmp_path,
        BUFFERED,
        "duration=30s",
        "flows.main.application=striped",
        "flows.main.connections=4",
        "flows.main.size=20MB",
    )
    assert faults(done) == []
    assert [flow["intact"] for flow in done.metadata["flows"]] == [True] * 4
    assert sum(flow["bytes"] for flow in done.metadata["flows"]) == 20_000_000
    sent = by_link(done)
    assert min(sent["one"], sent["two"]) > 4_000_000


@pytest.mark.slow
@pytest.mark.program("tcpdump")
def test_captures(tmp_path: Path) -> None:
    done = finished(tmp_path, BUFFERED, "duration=1s", 'captures=["alice:eth0", "bob:eth1"]')
    assert faults(done) == []
    for name in ("alice-eth0", "bob-eth1"):
        data = (done.folder / f"{name}.pcap").read_bytes()
        assert data[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")
        assert len(data) > 10_000


@pytest.mark.slow
def test_a_flow_that_is_done_ends_the_run(tmp_path: Path) -> None:
    done = finished(tmp_path, BUFFERED, "duration=60s", "flows.main.size=2MB")
    assert faults(done) == []
    assert done.metadata["flows"][0]["bytes"] == 2_000_000
    assert done.metadata["measured_ns"] < 10e9


@pytest.mark.program("iperf3")
def test_iperf3_that_is_done_before_the_run(tmp_path: Path) -> None:
    """Its sockets are gone then, and with them the kernel's count of what arrived."""
    done = finished(
        tmp_path, BUFFERED, "flows.main.application=iperf3", "flows.main.size=5MB", "duration=30s"
    )
    assert done.metadata["measured_ns"] < 20e9
    counts = [row["bytes"] for row in done.rows("flows")]
    assert min(counts) >= 0
    assert sum(counts) == done.metadata["flows"][0]["bytes"] > 1_000_000


@pytest.mark.slow
@pytest.mark.program("iperf3")
@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
def test_iperf3(tmp_path: Path, protocol: str) -> None:
    done = finished(
        tmp_path, BUFFERED, "flows.main.application=iperf3", f"flows.main.protocol={protocol}"
    )
    assert faults(done) == []
    [flow] = done.metadata["flows"]
    assert flow["intact"] is None
    assert flow["protocol"] == protocol
    expected = 60e6 if protocol == "mptcp" else 40e6
    total = sum(row["bytes"] for row in done.rows("flows"))
    assert total * 8 / 3 > 0.4 * expected
    assert flow["bytes"] >= total


@pytest.mark.slow
@pytest.mark.program("unshare")
@pytest.mark.program("dumpcap")
def test_a_user_namespace_is_all_that_a_run_needs(tmp_path: Path) -> None:
    # without the buffer: more than others than root may have
    text = TWO_LINKS.replace('rate = "40Mb/s"', 'rate = "40Mb/s"\ndelay = "2ms"')
    file = tmp_path / "two.toml"
    file.write_text('captures = ["bob:eth0"]\n' + text)
    # root of a user namespace: no capability reaches beyond what is made in there
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-m", "mptcplab", "run"]
    argv += [str(file), "--on", "linux", "--out", str(tmp_path / "out")]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stderr
    done = Run(tmp_path / "out")
    assert done.metadata["drivers"] == {"one": "tap", "two": "kernel"}
    assert [flow["intact"] for flow in done.metadata["flows"]] == [True]
    assert (tmp_path / "out" / "bob-eth0.pcap").stat().st_size > 10_000


def as_asked(driver: type[LinkDriver], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a driver claim that it is set as it should be, whatever it does."""
    monkeypatch.setattr(
        driver, "configured", lambda self, direction: asked(self, direction), raising=True
    )


def asked(driver: Any, direction: str) -> Channel:
    channel = (
        driver._channels[direction]
        if isinstance(driver, tap.TapDriver)
        else driver._side(direction).channel
    )
    assert isinstance(channel, Channel)
    return channel


@pytest.mark.slow
def test_a_delay_that_is_not_given_makes_the_run_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ChannelParameters.of
    monkeypatch.setattr(
        ChannelParameters,
        "of",
        lambda channel, **how: dataclasses.replace(right(channel, **how), delay_ns=0),
    )
    as_asked(tap.TapDriver, monkeypatch)
    done = finished(tmp_path, BUFFERED, "links.one.rtt=20ms", "duration=1s")
    assert not done.metadata["valid"]
    [reason] = [each for each in done.metadata["invalid_reasons"] if "round trip" in each]
    assert reason.startswith("one ")
    assert "20 ms asked for" in reason


@pytest.mark.slow
def test_a_rate_that_is_not_given_makes_the_run_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kernel.shaper
    monkeypatch.setattr(
        kernel,
        "shaper",
        lambda channel, mtu: dataclasses.replace(right(channel, mtu), rate_bps=30_000_000),
    )
    as_asked(kernel.KernelDriver, monkeypatch)
    done = finished(tmp_path, BUFFERED, "duration=1s")
    reasons = done.metadata["invalid_reasons"]
    assert any(each.startswith("one forward: ") and "40 Mb/s asked for" in each for each in reasons)
    assert any(each.startswith("two forward: ") and "20 Mb/s asked for" in each for each in reasons)


@pytest.mark.slow
def test_a_setting_that_reads_back_differently_makes_the_run_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kernel.shaper
    monkeypatch.setattr(
        kernel,
        "shaper",
        lambda channel, mtu: dataclasses.replace(right(channel, mtu), limit_bytes=50_000),
    )
    done = finished(tmp_path, BUFFERED, "duration=1s")
    assert any("queue is" in each for each in done.metadata["invalid_reasons"])


@pytest.mark.slow
def test_a_termination_leaves_what_was_measured(tmp_path: Path) -> None:
    scenario(tmp_path, BUFFERED.replace('"3s"', '"60s"'))
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from mptcplab.linux.testbed import run
        from mptcplab.results.observer import Silent
        from mptcplab.scenario.load import load

        class Shout(Silent):
            def tick(self, *_):
                print("tick", flush=True)

        folder = Path(sys.argv[1])
        run(load(str(folder / "scenario.toml")), folder / "run", Shout())
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    for _ in range(4):
        assert process.stdout.readline() == b"tick\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    done = Run(tmp_path / "run")
    assert any("stopped by SIGTERM" in each for each in done.metadata["invalid_reasons"])
    assert len(done.rows("flows")) >= 4

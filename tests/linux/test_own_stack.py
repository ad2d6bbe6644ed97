"""Our stack on a host of the Linux testbed, against the kernel's on the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.linux.two_links import TWO_LINKS, carried, faults, finished, outage

from mptcplab.linux.traffic.plan import FlowError
from mptcplab.results.run import Run

pytestmark = pytest.mark.kernel


def ours(host: str) -> str:
    return f"hosts.{host}.stack=ours"


@pytest.mark.slow
@pytest.mark.parametrize("host", ["alice", "bob"])
def test_our_stack_and_the_kernels_use_both_links_through_an_outage(
    host: str, tmp_path: Path
) -> None:
    done = finished(tmp_path, TWO_LINKS + outage("one", "1s", "2s"), ours(host), "duration=4s")
    assert faults(done) == []
    [flow] = done.metadata["flows"]
    assert (flow["protocol"], flow["intact"]) == ("mptcp", True)
    sent = {"one": 0, "two": 0}
    for row in done.rows("links"):
        sent[row["link"]] += row["tx_bytes"]
    assert carried(done, "one", sent["one"] * 8 / 3, 0.4 * 40e6)
    assert carried(done, "two", sent["two"] * 8 / 4, 0.4 * 20e6)
    subflows = [row for row in done.rows("subflows") if row["host"] == host]
    assert {row["link"] for row in subflows} == {"one", "two"}
    assert all(row["cwnd_bytes"] > 0 and row["mss_bytes"] > 1000 for row in subflows)
    moved = "bytes_acked" if host == "alice" else "bytes_received"
    assert max(row[moved] for row in subflows if row["link"] == "two") > 1_000_000
    connections = [row for row in done.rows("connections") if row["host"] == host]
    assert {row["protocol"] for row in connections} == {"mptcp"}
    assert max(row[moved] for row in connections) > 5_000_000
    events = [row for row in done.rows("events") if row["host"] == host]
    came = {row["subflow"] for row in events if row["event"] == "subflow-established"}
    assert len(came) >= 3  # one on each link, and one when the link had returned
    assert any(row["event"] == "subflow-closed" and row["link"] == "one" for row in events)


@pytest.mark.slow
def test_several_tcp_connections_of_both_stacks(tmp_path: Path) -> None:
    text = TWO_LINKS + 'protocol = "tcp"\nconnections = 2\nlinks = "two"\nclient = "bob"\n'
    done = finished(tmp_path, text, ours("alice"), "duration=1s")
    assert faults(done) == []
    flows = done.metadata["flows"]
    assert [(flow["protocol"], flow["intact"]) for flow in flows] == [("tcp", True)] * 2
    assert all(flow["bytes"] > 100_000 for flow in flows)


@pytest.mark.slow
@pytest.mark.program("unshare")
def test_a_user_namespace_is_all_that_our_stack_needs(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    text = TWO_LINKS.replace('"3s"', '"2s"').replace(
        'rate = "20Mb/s"', 'rate = "20Mb/s"\nrtt = "4ms"'
    )
    file.write_text(text)
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-m", "mptcplab", "run"]
    argv += [str(file), "--on", "linux", "--out", str(tmp_path / "out")]
    argv += ["--set", ours("bob"), "--set", "links.*.families=ipv6"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stderr
    done = Run(tmp_path / "out")
    [flow] = done.metadata["flows"]
    assert (flow["protocol"], flow["intact"]) == ("mptcp", True)
    assert {row["link"] for row in done.rows("subflows") if row["host"] == "bob"} == {"one", "two"}
    assert all(row["local"].startswith("[") for row in done.rows("subflows"))


@pytest.mark.slow
def test_a_stack_that_cannot_start_says_why(tmp_path: Path) -> None:
    text = TWO_LINKS.replace(
        'between = ["alice", "bob"]', 'between = ["alice:own-stack", "bob"]', 1
    )
    with pytest.raises(FlowError, match=r"flow main: .*TUN device own-stack"):
        finished(tmp_path, text, ours("alice"))

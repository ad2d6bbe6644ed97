from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from mptcplab.linux.measure.unsupported import UnsupportedError, check_supported
from mptcplab.linux.traffic import usrsctp
from mptcplab.linux.traffic.sctp import unsupported_paths
from mptcplab.linux.traffic.usrsctp import notification, sockaddr
from mptcplab.results.observer import Silent
from mptcplab.scenario import Scenario, ScenarioError, load
from mptcplab.scenario.describe import describe
from mptcplab.simulated import testbed as simulated

TWO_LINKS = """
duration = "1s"
hosts = ["alice", "bob"]
[links.one]
between = ["alice", "bob"]
rate = "10Mb/s"
[links.two]
between = ["alice", "bob"]
rate = "10Mb/s"
[flows.main]
from = "alice"
to = "bob"
protocol = "sctp"
"""

ROUTER = """
duration = "1s"
hosts = ["alice", "bob"]
[routers.middle]
[links.left]
between = ["alice", "middle"]
[links.right]
between = ["middle", "bob"]
rate = "10Mb/s"
[flows.main]
from = "alice"
to = "bob"
protocol = "sctp"
"""

ONE_SUBNET = """
duration = "1s"
[hosts.alice]
interfaces = { eth0 = "10.0.0.1/24", eth1 = "10.0.0.2/24" }
[hosts.bob]
interfaces = { eth0 = "10.0.0.11/24", eth1 = "10.0.0.12/24" }
[switches.middle]
ports = ["bob:eth0", "bob:eth1"]
[links.one]
between = ["alice:eth0", "middle"]
rate = "10Mb/s"
[links.two]
between = ["alice:eth1", "middle"]
rate = "10Mb/s"
[flows.main]
from = "alice"
to = "bob"
protocol = "sctp"
"""


def loaded(folder: Path, text: str, *overrides: str) -> Scenario:
    file = folder / "scenario.toml"
    file.write_text(text)
    return load(str(file), overrides=overrides)


def test_an_association_is_over_all_paths(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, TWO_LINKS)
    (flow,) = scenario.flows
    assert (flow.protocol, flow.congestion, flow.cmt) == ("sctp", "reno", False)
    assert [path.links for path in scenario.expected_subflows(flow)] == [("one",), ("two",)]
    assert unsupported_paths(scenario, flow) is None
    assert "on one path at a time" in describe(scenario)
    both = loaded(tmp_path, TWO_LINKS, "flows.main.cmt=true", "flows.main.sctp.initial_cwnd=10")
    assert both.flows[0].sctp == (("initial_cwnd", 10),)
    assert "on all paths at once" in describe(both)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("application=web", '"web" does not run over SCTP'),
        ("family=ipv6", "which runs over IPv4 here"),
        ("congestion=cubic", '"cubic" is not one of SCTP\'s'),
        ("congestion=lia", "couples paths that are used at once; expected cmt = true"),
        ("sctp.speed=1", '"speed" is no setting of SCTP'),
    ],
)
def test_what_sctp_lacks_is_told_with_the_key(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        loaded(tmp_path, TWO_LINKS, f"flows.main.{override}")
    assert says in str(caught.value)


def test_its_keys_are_for_sctp_alone(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r'cmt: is for SCTP; expected protocol = "sctp"'):
        loaded(tmp_path, TWO_LINKS, "flows.main.protocol=mptcp", "flows.main.cmt=true")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ROUTER, "a path leads through a router"),
        (ONE_SUBNET, "several paths are in one subnet"),
        (TWO_LINKS + '[hosts.bob]\nstack = "ours"\n', '"sctp" is not of our own stack'),
    ],
)
def test_networks_that_it_cannot_use_are_told(tmp_path: Path, text: str, says: str) -> None:
    text = text.replace('hosts = ["alice", "bob"]', "[hosts.alice]\n[hosts.bob]", 1)
    text = text.replace('[hosts.bob]\nstack = "ours"\n', "")
    if "our own stack" in says:
        text = text.replace("[hosts.bob]", '[hosts.bob]\nstack = "ours"')
    with pytest.raises(UnsupportedError, match=says):
        check_supported(loaded(tmp_path, text))


def test_a_missing_library_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usrsctp, "LIBRARY", "libusrsctp-is-not-here.so.2")
    with pytest.raises(UnsupportedError) as caught:
        check_supported(loaded(tmp_path, TWO_LINKS))
    (line,) = str(caught.value).splitlines()
    assert line.endswith("install Debian's package libusrsctp2")


def test_the_simulated_testbed_refuses_it_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(simulated.UnsupportedError) as caught:
        simulated.run(loaded(tmp_path, TWO_LINKS), tmp_path / "run", Silent())
    (line,) = str(caught.value).splitlines()
    assert '"sctp" is libusrsctp on Linux hosts' in line
    assert "or --on linux" in line


def test_notifications_say_what_became_of_paths_and_of_the_association() -> None:
    address = sockaddr("10.0.2.2", 5001).ljust(128, b"\0")
    failed = notification(struct.pack("@HHI128sIII", 2, 0, 148, address, 2, 0, 1))
    assert (failed.path, failed.state, failed.lost) == ("10.0.2.2", "unreachable", "")
    lost = notification(struct.pack("@HHIHHHHI", 1, 0, 20, 2, 7, 1, 1, 1))
    assert lost.lost == "the association was lost (error 7)"
    up = notification(struct.pack("@HHIHHHHI", 1, 0, 20, 1, 0, 1, 1, 1))
    assert (up.path, up.lost, up.size_bytes) == ("", "", 0)


def test_an_address_is_as_the_kernel_has_it() -> None:
    assert sockaddr("10.0.1.2", 5001) == (
        struct.pack("=H", socket.AF_INET) + b"\x13\x89" + bytes([10, 0, 1, 2]) + bytes(8)
    )

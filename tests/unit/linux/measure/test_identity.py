"""Names of subflows whose servers see only a NAT's address."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.linux.measure.identity import Identities, Subflow
from mptcplab.linux.traffic.flow import Connection
from mptcplab.network.topology import InterfaceEnd
from mptcplab.scenario.load import load

BEHIND_ONE_NAT = """
duration = "2s"
hosts = { phone = {}, tablet = {}, server = {} }
routers = { home = {}, isp = {} }
[links]
wifi = { between = ["phone", "home"], rate = "20Mb/s" }
wire = { between = ["phone", "home"], rate = "30Mb/s" }
wifi2 = { between = ["tablet", "home"], rate = "20Mb/s" }
dsl = { between = ["home", "isp"], rate = "100Mb/s", middleboxes = ["nat"] }
last = { between = ["isp", "server"], rate = "1Gb/s" }
[flows]
main = { from = "server", to = "phone", client = "phone" }
other = { from = "server", to = "tablet", client = "tablet" }
"""


class Behind:
    """The NAT's scenario, and what a server and its clients call a subflow there."""

    def __init__(self, folder: Path) -> None:
        file = folder / "nat.toml"
        file.write_text(BEHIND_ONE_NAT)
        told = load(str(file))
        self.topology = told.topology
        self.identities = Identities(told.topology)
        self.connections = {
            flow.name: Connection(flow, 0, 5001 + number) for number, flow in enumerate(told.flows)
        }
        self.identities.add(self.connections.values())

    def address(self, host: str, link: str) -> str:
        ends = self.topology.link(link).a, self.topology.link(link).b
        (end,) = (each for each in ends if isinstance(each, InterfaceEnd) and each.host == host)
        (only,) = self.topology.interface_at(end).addresses
        return str(only.ip)

    def named(self, flow: str, link: str | None, port: int) -> Subflow:
        """Name a subflow as its client sees it on a link or, without one, as its server does."""
        connection = self.connections[flow]
        (box,) = self.topology.link("dsl").near_boxes
        client_host = connection.flow.destination
        shown = str(box.outside) if link is None else self.address(client_host, link)
        client, server = (shown, port), (self.address("server", "last"), connection.port)
        if link is None:
            return self.identities.subflow(connection, False, server, client)
        return self.identities.subflow(connection, True, client, server)


@pytest.fixture
def behind(tmp_path: Path) -> Behind:
    return Behind(tmp_path)


def test_a_server_names_the_link_of_its_own_client(behind: Behind) -> None:
    assert behind.named("other", None, 40001).link == "wifi2"
    assert behind.named("other", "wifi2", 40001) == Subflow("other", 0, 0, "wifi2")


def test_a_server_leaves_the_name_of_several_links_to_the_client(behind: Behind) -> None:
    assert behind.named("main", None, 40001).link is None
    assert behind.named("main", "wire", 40001) == Subflow("main", 0, 0, "wire")
    assert behind.named("main", None, 40001) == Subflow("main", 0, 0, "wire")

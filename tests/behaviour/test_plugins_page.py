"""The policies of the pages docs/extend, run as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench.equilibria.hosts import PORT, Laboratory
from bench.equilibria.paths import MS, SECOND, bulk_config, client_address, server_address
from tests.behaviour.documentation import DOCS, File, read

from mptcplab.network.parameters import ChannelParameters
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.simulated import testbed

PAGES = ("scheduler", "path-manager", "congestion-control")
POLICIES = [
    part
    for name in PAGES
    for part in read(DOCS / "extend" / f"{name}.md").parts
    if isinstance(part, File) and part.name.endswith(".py")
]


@pytest.fixture(name="page")
def page_names() -> dict[str, Any]:
    """Run the policies of the pages in order and return what they defined."""
    names: dict[str, Any] = {}
    assert len(POLICIES) == 4
    for policy in POLICIES:
        exec(policy.text, names)
    return names


@pytest.mark.parametrize("congestion", ["Scalable", "Ewtcp"])
def test_the_examples_work_together(page: dict[str, Any], congestion: str) -> None:
    laboratory = Laboratory(seed=1)
    config = bulk_config(
        page[congestion], scheduler=page["MostRoom"], path_manager=page["AfterASecond"]
    )
    client, server = laboratory.host(config), laboratory.host(config)
    link = ChannelParameters(rate_bps=20_000_000, delay_ns=5 * MS, queue_bytes=50_000)
    for number in range(2):
        forth, back = laboratory.wire(link), laboratory.wire(link)
        client.stack.add_address(client_address(number), number + 1)
        client.sources[client_address(number)] = forth
        server.wires[client_address(number)] = back
    server.stack.add_address(server_address(0), 1)
    server.stack.listen(PORT)
    connection = laboratory.transfer(client, server, config)
    laboratory.loop.run(SECOND - 100 * MS)
    assert [one.tcp.local for one in connection.subflows] == [client_address(0)]
    laboratory.loop.run(6 * SECOND)
    assert [one.tcp.local for one in connection.subflows] == [client_address(0), client_address(1)]
    # Two links of 20 Mb/s for five seconds: 25 MB; one alone could carry 12.5 MB more than that.
    assert connection.data_acked_bytes() > 20_000_000
    assert all(type(one.tcp.sender.congestion) is page[congestion] for one in connection.subflows)


def test_each_example_is_about_a_dozen_lines() -> None:
    for policy in POLICIES:
        code = policy.text[policy.text.find("class ") :]
        lines = [line for line in code.splitlines() if line]
        assert len(lines) <= 16


SCENARIO = """
duration = "4s"
hosts = ["alice", "bob"]
links.one = { between = ["alice", "bob"], rate = "20Mb/s", rtt = "10ms" }
links.two = { between = ["alice", "bob"], rate = "20Mb/s", rtt = "10ms" }
flows.main = { from = "alice", to = "bob", congestion = "from_the_page:Scalable" }
tunables.scheduler = "from_the_page:MostRoom"
tunables.path_manager = "from_the_page:AfterASecond"
"""


def test_a_scenario_names_them(tmp_path: Path) -> None:
    (tmp_path / "from_the_page.py").write_text("\n".join(policy.text for policy in POLICIES))
    (tmp_path / "own.toml").write_text(SCENARIO)
    scenario = load(tmp_path / "own.toml", plugins=True)
    run = Run(testbed.run(scenario, tmp_path / "run", Silent()))
    assert run.metadata["valid"]
    joined = [
        row["time_ns"]
        for row in run.rows("events")
        if row["event"] == "subflow-established" and row["subflow"] and row["host"] == "alice"
    ]
    assert len(joined) == 1  # the second subflow, a second after the connection
    assert 1_000_000_000 < joined[0] < 1_100_000_000
    assert sum(row["bytes"] for row in run.rows("flows")) > 13_000_000  # one link: 10 MB at most

"""The report's testbed and experiments, against the report."""

from importlib import resources
from pathlib import Path

import pytest

from mptcplab.network.topology import InterfaceEnd
from mptcplab.scenario import (
    ScenarioError,
    Summary,
    examples,
    experiments,
    load,
    load_topology,
)
from mptcplab.scenario.resolve.timeline import LinkStates

DATA = Path(str(resources.files("mptcplab.scenario"))) / "data"

TABLE_1 = """\
bliksem eth0 145.100.37.131 0 MAN 1Gb
bliksem eth8.1001 192.168.11.1 1 LAN 10Gb
bliksem eth5.514 192.168.138.2 2 WAN 10Gb
bliksem eth5.1000 192.168.12.1 3 LAN 10Gb
bliksem eth2.2000 192.168.13.1 4 LAN 10Gb
bliksem eth8.520 192.168.21.1 5 LAN 1Gb
bliksem eth2.522 192.168.22.1 6 LAN 1Gb
bliksem eth8.516 192.168.23.1 7 WAN 1Gb
bliksem eth2.518 192.168.24.1 8 WAN 300Mb
donder eth0 145.100.37.132 0 MAN 1Gb
donder eth3.1001 192.168.11.2 1 LAN 10Gb
donder eth2.515 192.168.138.18 2 WAN 10Gb
donder eth2.1000 192.168.12.2 3 LAN 10Gb
donder eth1.2000 192.168.13.2 4 LAN 10Gb
donder eth3.521 192.168.21.2 5 LAN 1Gb
donder eth1.523 192.168.22.2 6 LAN 1Gb
donder eth3.517 192.168.23.2 7 WAN 1Gb
donder eth1.519 192.168.24.2 8 WAN 300Mb
rainbow em2 192.168.22.3 9 LAN 1Gb"""


@pytest.mark.parametrize("row", TABLE_1.splitlines())
def test_table_1(row: str) -> None:
    host, name, address, link_id, environment, speed = row.split()
    topology = load_topology("report")
    interface = topology.host(host).interface(name)
    assert [str(each.ip) for each in interface.addresses] == [address]
    assert interface.multipath == (name != "eth0")
    nic, _, vlan = name.partition(".")
    assert (interface.nic, interface.vlan) == (nic, int(vlan) if vlan else None)
    link = topology.link(f"link{link_id}")
    end = InterfaceEnd(host, name)
    assert end in (link.a, link.b) or end in topology.switches[0].ports
    assert link.environment.upper() == environment
    rate = {"1Gb": 10**9, "10Gb": 10**10, "300Mb": 3 * 10**8}[speed]
    assert link.forward.rate_bps == link.backward.rate_bps == rate


def test_the_testbed_is_table_1_and_no_more() -> None:
    topology = load_topology("report")
    assert sum(len(host.interfaces) for host in topology.hosts) == len(TABLE_1.splitlines())
    assert [link.name for link in topology.links] == [f"link{number}" for number in range(10)]
    rtts = {link.name: link.rtt_ns for link in topology.links if link.rtt_ns}
    assert rtts == {"link2": 202_000_000, "link7": 33_300_000, "link8": 33_300_000}
    nics = {(host.name, nic.name): nic.rate_bps for host in topology.hosts for nic in host.nics}
    assert nics[("bliksem", "eth8")] == nics[("donder", "eth1")] == 10**10
    assert nics[("rainbow", "em2")] == 10**9


def test_management_is_no_path() -> None:
    paths = load_topology("report").paths("bliksem", "donder")
    assert sorted(path.links for path in paths) == [(f"link{n}",) for n in range(1, 9)]


def test_rainbow_is_behind_the_loop() -> None:
    topology = load_topology("report")
    (path,) = topology.paths("bliksem", "rainbow")
    assert path.links == ("link6", "link9")
    assert topology.directions(path) == (("link6", "forward"), ("link9", "backward"))


@pytest.mark.parametrize(
    ("name", "section", "links", "first"),
    [
        ("A", "3.3.1", ["link6", "link5"], "192.168.22.1"),
        ("B", "3.3.2", ["link6", "link5"], "192.168.22.1"),
        ("C", "3.3.3", ["link1", "link3"], "192.168.11.1"),
        ("D", "3.3.4", ["link6", "link5", "link3"], "192.168.22.1"),
        ("E", "3.3.5", ["link6", "link5", "link3"], "192.168.22.1"),
        ("F", "3.3.6", ["link7", "link8"], "192.168.23.1"),
        ("G", "3.3.7", ["link7", "link8", "link2"], "192.168.23.1"),
        ("H", "3.3.8", ["link6", "link7"], "192.168.22.1"),
        ("I", "3.3.9", ["link6"], "192.168.22.1"),
    ],
)
def test_subflows(name: str, section: str, links: list[str], first: str) -> None:
    scenario = load(name)
    subflows = scenario.expected_subflows(scenario.flows[0])
    assert [path.links for path in subflows] == [(link,) for link in links]
    assert str(subflows[0].local_address.ip) == first
    assert scenario.report.section == section
    assert scenario.report.figures
    assert scenario.report.measured
    assert scenario.expectations
    assert scenario.question.endswith("?")


def test_tcp_to_rainbow_shares_the_loop() -> None:
    scenario = load("I")
    tcp = scenario.flows[1]
    assert tcp.protocol == "tcp"
    assert [path.links for path in scenario.expected_subflows(tcp)] == [("link6", "link9")]


def stage_table(name: str) -> list[tuple[int, int, int]]:
    """Return start in s, rate in Mb/s and link count of each stage, as Tables 2 and 3 do."""
    scenario = load(name)
    states = LinkStates(scenario.topology, scenario.timeline)
    rates = {item.stage: item.value_bps // 10**6 for item in scenario.report.measured}
    return [
        (start // 10**9, rates[number], len(states.up(start)))
        for number, (start, _) in enumerate(scenario.stages())
    ]


def test_what_2012_measured_is_apart_from_what_links_could_carry() -> None:
    """Tables 2 and 3 give "Max Throughput", which nobody measured."""
    for name in "BE":
        report = load(name).report
        assert {value.kind for value in report.measured} == {"capacity"}
        assert all(value.source in ("Table 2", "Table 3") for value in report.measured)
    (returned,) = load("B").report.findings
    assert returned.stage == 3
    assert "only the returned link" in returned.text
    assert "figure 14" in returned.source
    (joined,) = load("E").report.findings
    assert joined.stage is None


MEASURED = {
    ("A", "rates"): [1899],
    ("C", "1 session"): [10_000, 9185],
    ("C", "2 sessions"): [12_754, 6393, 6361],
    ("D", "MSS 1400"): [4438, 4667],
    ("D", "MSS 8900"): [9540],
    ("F", "5 MB"): [955],
    ("F", "6 MB"): [905],
    ("G", "6 MB"): [472],
    ("H", "Geneva"): [1878],
    ("I", "1 link, 1 TCP"): [686, 243],
    ("I", "2 links, 1 TCP"): [1468, 306],
}
"""What the text of the report gives as measured, in Mb/s, and of which run."""


def test_values_stand_beside_the_runs_that_gave_them() -> None:
    """Each value once; none beside a guess such as rainbow's buffers."""
    given = {}
    for name in "ABCDEFGHI":
        scenario = load(name)
        points = scenario.sweep.points
        for label, values in [
            *((point.label, point.measured) for point in points),
            *([] if points else [("", scenario.report.measured)]),
        ]:
            rates = [value.value_bps // 10**6 for value in values if value.kind == "measured"]
            if rates:
                given[name, label] = rates
    assert given == MEASURED
    derived = {
        point.label: value.value_bps // 10**6
        for point in load("I").sweep.points
        for value in point.measured
        if value.kind == "derived"
    }
    assert derived == {"1 link, 2 TCP": 384, "2 links, 2 TCP": 512}


def test_table_2() -> None:
    assert stage_table("B") == [(0, 960, 1), (120, 1920, 2), (420, 960, 1), (540, 1920, 2)]
    assert load("B").duration_ns == 900 * 10**9


def test_table_3() -> None:
    assert stage_table("E") == [
        (0, 960, 1), (30, 1920, 2), (280, 960, 1), (310, 10560, 2), (610, 9600, 1),
        (640, 10560, 2), (670, 960, 1), (700, 1920, 2), (880, 11520, 3),
    ]  # fmt: skip
    assert load("E").duration_ns == 1000 * 10**9


@pytest.mark.parametrize(
    ("name", "megabytes"), [("A", 3), ("C", 10), ("D", 8), ("E", 8), ("F", 5), ("G", 6), ("H", 5)]
)
def test_buffers_are_what_iperf_doubles(name: str, megabytes: int) -> None:
    flow = load(name).flows[0]
    assert flow.send_buffer_bytes == 2 * megabytes * 2**20
    most = 115_343_360  # what the report let the kernel give, where 10 Gb/s links need it today
    assert flow.receive_buffer_bytes == (most if name in "CDE" else flow.send_buffer_bytes)
    assert flow.write_bytes == 65536


def test_h_has_the_chicago_link_and_is_judged_from_the_first_second_on() -> None:
    scenario = load("H", duration_ns=2_000_000_000)
    assert scenario.expectations[0].settle_ns == 1_000_000_000
    _, chicago = scenario.sweep.points
    variant = load("H", overrides=chicago.overrides)
    assert {link.name for link in variant.topology.links} == {"link6", "link2"}
    assert not chicago.measured, "the report did not test it"
    assert min(each.settle_ns for each in variant.expectations) == 1_000_000_000


def test_appendix_f_ran_as_many_sessions_over_mptcp_as_over_tcp() -> None:
    points = load("sessions").sweep.points
    assert [point.label for point in points] == ["1", "2", "3", "9", "16", "21"]
    most = load("sessions", overrides=points[-1].overrides)
    assert [flow.connections for flow in most.flows] == [21, 21]
    assert load("I").flows[1].links == most.flows[1].links


@pytest.mark.slow
@pytest.mark.parametrize("name", [*"ABCDEFGHI", "sessions"])
def test_sweeps(name: str) -> None:
    scenario = load(name)
    for point in scenario.sweep.points:
        variant = load(name, overrides=point.overrides)
        assert (variant == scenario) == (not point.overrides)


def test_the_list() -> None:
    assert [item.name for item in experiments()] == [*"ABCDEFGHI", "SESSIONS"]
    figures = {figure for item in experiments() for figure in item.figures}
    assert figures == set(range(13, 33)), "each of the report's figures of results"
    drawn = set()
    for item in experiments():
        sweep = load(item.name).sweep
        drawn |= set(sweep.figures)
        for point in sweep.points:
            drawn |= {*point.figures, *(number for _, number in point.inspected)}
    assert drawn == figures, "and `reproduce` draws each"
    assert all(item.question and item.title and item.section for item in experiments())
    assert load("a") == load("A")


@pytest.mark.parametrize("each", examples(), ids=lambda each: each.name)
def test_examples_have_all_that_a_list_shows_and_go_by_their_name(each: Summary) -> None:
    assert each.title
    assert each.question.endswith("?")
    assert each.lesson
    scenario = load(each.name)
    assert scenario == load(each.path)
    assert f"examples/{scenario.name}" == each.name
    assert (scenario.question, scenario.lesson) == (each.question, each.lesson)
    assert all(scenario.expected_subflows(flow) for flow in scenario.flows)


def test_an_example_without_its_folder_is_named() -> None:
    with pytest.raises(ScenarioError, match='did you mean "examples/wifi-and-lte"'):
        load("wifi-and-lte")


def test_a_file_of_the_name_of_an_example_has_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").mkdir()
    own = 'title = "mine"\n' + (DATA / "examples" / "two-links.toml").read_text().split("\n", 1)[1]
    (tmp_path / "examples" / "two-links").write_text(own)
    monkeypatch.chdir(tmp_path)
    assert load("examples/two-links").title == "mine"


def test_a_lab_takes_the_network_of_an_example() -> None:
    network = load_topology("examples/wifi-and-lte")
    assert [router.name for router in network.routers] == ["home", "carrier", "internet"]

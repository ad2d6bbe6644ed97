"""From files to resolved scenarios: derivation, overrides, scaling."""

import cProfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mptcplab.network.topology import InterfaceEnd, Queue, SwitchEnd
from mptcplab.scenario import Scenario, ScenarioError, is_topology, load, load_topology
from mptcplab.scenario.model import Action, Tunables
from mptcplab.scenario.schema import read

SHORT = """\
duration = "20s"
hosts = ["alice", "bob"]

[links.fast]
between = ["alice", "bob"]
rate = "100Mb/s"
rtt = "20ms"
queue = "1 BDP"

[links.slow]
between = ["alice", "bob"]

[flows.main]
from = "alice"
to = "bob"
"""
TIMED = (
    SHORT
    + """
start = "2s"
stop = "18s"

[[timeline]]
at = "10s"
change = "fast"
rate = "50Mb/s"
rtt = "40ms"

[[timeline]]
at = "4s"
down = ["slow", "bob:eth0"]

[[expect]]
goodput = "10Mb/s"
stage = 0
settle = "3s"
"""
)


def loaded(tmp_path: Path, text: str, *overrides: str, **more: float) -> Scenario:
    path = tmp_path / "test.toml"
    path.write_text(text)
    return load(path, overrides=overrides, **more)  # type: ignore[arg-type]


def addresses(scenario: Scenario) -> dict[str, list[str]]:
    return {
        f"{host.name}:{interface.name}": [str(address) for address in interface.addresses]
        for host in scenario.topology.hosts
        for interface in host.interfaces
    }


def test_names_and_addresses_are_derived(tmp_path: Path) -> None:
    assert addresses(loaded(tmp_path, SHORT)) == {
        "alice:eth0": ["10.0.1.1/24"],
        "alice:eth1": ["10.0.2.1/24"],
        "bob:eth0": ["10.0.1.2/24"],
        "bob:eth1": ["10.0.2.2/24"],
    }


def test_families_on_demand(tmp_path: Path) -> None:
    both = addresses(loaded(tmp_path, 'families = ["ipv4", "ipv6"]\n' + SHORT))
    assert both["bob:eth1"] == ["10.0.2.2/24", "fd6d:7074:6370:2::2/64"]
    mixed = addresses(loaded(tmp_path, SHORT, "links.slow.families=ipv6"))
    assert mixed["bob:eth0"] == ["10.0.1.2/24"]
    assert mixed["bob:eth1"] == ["fd6d:7074:6370:1::2/64"]


def test_derived_addresses_keep_clear_of_given_ones(tmp_path: Path) -> None:
    text = SHORT.replace('hosts = ["alice", "bob"]\n', "") + (
        '[hosts.alice]\ninterfaces = { a0 = {}, a1 = "10.0.0.1/20" }\n[hosts.bob]\n'
    )
    text = text.replace('["alice", "bob"]', '["alice:a0", "bob"]', 1)
    text = text.replace('["alice", "bob"]', '["alice:a1", "bob"]', 1)
    assert addresses(loaded(tmp_path, text)) == {
        "alice:a0": ["10.0.16.1/24"],
        "alice:a1": ["10.0.0.1/20"],
        "bob:eth0": ["10.0.16.2/24"],
        "bob:eth1": ["10.0.0.2/20"],
    }


def test_many_hosts_on_a_switch(tmp_path: Path) -> None:
    hosts = [f"h{number}" for number in range(5)]
    links = "".join(f'[links.l{name}]\nbetween = ["{name}", "s"]\n' for name in hosts)
    scenario = loaded(
        tmp_path,
        f'duration = "1s"\nhosts = {hosts}\nswitches = ["s"]\n{links}'
        '[flows.f]\nfrom = "h3"\nto = "h1"\n',
    )
    assert {each for found in addresses(scenario).values() for each in found} == {
        f"10.0.1.{n}/24" for n in range(1, 6)
    }
    (path,) = scenario.expected_subflows(scenario.flows[0])
    assert path.links == ("lh3", "lh1")
    assert scenario.topology.directions(path) == (("lh3", "forward"), ("lh1", "backward"))


def test_link_quantities(tmp_path: Path) -> None:
    fast, slow = loaded(tmp_path, SHORT).topology.links
    assert fast.forward == fast.backward
    assert fast.forward.rate_bps == 100_000_000
    assert fast.forward.delay_ns == 10_000_000
    assert fast.forward.queue == Queue(limit_bytes=250_000)
    assert slow.forward.rate_bps is None
    assert slow.forward.queue == Queue()


@pytest.mark.parametrize(
    ("written", "queue"),
    [
        ('"100 packets"', Queue(limit_packets=100)),
        ('"1 packet"', Queue(limit_packets=1)),
        ('"64KiB"', Queue(limit_bytes=65536)),
        ('"50ms"', Queue(limit_bytes=625_000)),
        ('"0.5 BDP"', Queue(limit_bytes=125_000)),
        ('["30 packets", "1MB"]', Queue(limit_bytes=1_000_000, limit_packets=30)),
    ],
)
def test_queues(written: str, queue: Queue, tmp_path: Path) -> None:
    link = loaded(tmp_path, SHORT.replace('"1 BDP"', written)).topology.link("fast")
    assert link.forward.queue == queue


def test_the_default_queue(tmp_path: Path) -> None:
    text = SHORT.replace('queue = "1 BDP"\n', "")
    assert loaded(tmp_path, text).topology.link("fast").forward.queue.limit_bytes == 250_000
    small = loaded(tmp_path, text, "links.fast.rtt=1ms").topology.link("fast")
    assert small.forward.queue.limit_bytes == 100 * 1518


def test_directions_may_differ(tmp_path: Path) -> None:
    text = SHORT + '[links.fast.backward]\nrate = "10Mb/s"\ndelay = "5ms"\nloss = "1%"\n'
    link = loaded(tmp_path, text).topology.link("fast")
    assert (link.forward.rate_bps, link.backward.rate_bps) == (100_000_000, 10_000_000)
    assert (link.forward.delay_ns, link.backward.delay_ns) == (10_000_000, 5_000_000)
    assert (link.forward.loss, link.backward.loss) == (0.0, 0.01)
    assert link.rtt_ns == 15_000_000
    assert link.backward.queue.limit_bytes == 10_000_000 * 15 // 8000


def test_an_odd_rtt_is_kept_whole(tmp_path: Path) -> None:
    assert (
        loaded(tmp_path, SHORT, 'links.fast.rtt="30000001ns"').topology.link("fast").rtt_ns
        == 30_000_001
    )


def test_actions_in_order_of_time(tmp_path: Path) -> None:
    assert loaded(tmp_path, TIMED).timeline == (
        Action(4 * 10**9, "down", "slow", "link", label="slow down"),
        Action(4 * 10**9, "down", "bob:eth0", "nic", label="bob:eth0 down"),
        Action(
            10 * 10**9, "set", "fast", "link",
            (("rate_bps", 50_000_000), ("delay_ns", 20_000_000)),
            label="fast: 50 Mb/s, delay 20 ms",
        ),
    )  # fmt: skip


def test_started_and_stopped_by_the_timeline(tmp_path: Path) -> None:
    text = SHORT + '[[timeline]]\nat = "3s"\nstart = "main"\n[[timeline]]\nat = 9\nstop = "main"\n'
    scenario = loaded(tmp_path, text)
    assert (scenario.flows[0].start_ns, scenario.flows[0].stop_ns) == (3 * 10**9, 9 * 10**9)
    assert len(scenario.stages()) == 3


@pytest.mark.parametrize("arguments", [{"time_scale": 0.1}, {"duration_ns": 2 * 10**9}])
def test_scaling_keeps_the_shape(arguments: dict[str, float], tmp_path: Path) -> None:
    whole, scaled = loaded(tmp_path, TIMED), loaded(tmp_path, TIMED, **arguments)
    assert scaled.time_scale == 0.1
    assert [10 * end for _, end in scaled.stages()] == [end for _, end in whole.stages()]
    assert scaled.flows[0].start_ns == 200_000_000
    assert scaled.flows[0].stop_ns == 1_800_000_000
    assert scaled.topology == whole.topology
    assert scaled.timeline[-1].changes == whole.timeline[-1].changes
    assert whole.expectations[0].settle_ns == scaled.expectations[0].settle_ns == 3 * 10**9
    shortest_ns = min(end_ns - start_ns for start_ns, end_ns in scaled.stages())
    assert shortest_ns // 25 <= scaled.interval_ns <= shortest_ns // 10


def test_scaling_that_loses_a_stage(tmp_path: Path) -> None:
    text = (
        SHORT
        + '[[timeline]]\nat = "10s"\ndown = "slow"\n[[timeline]]\nat = "10.001s"\nup = "slow"\n'
    )
    assert len(loaded(tmp_path, text).stages()) == 3
    with pytest.raises(ScenarioError, match="makes actions of the timeline coincide"):
        loaded(tmp_path, text, "duration=10000s", time_scale=1e-7, interval_ns=10**7)


def test_the_last_stop_is_the_duration(tmp_path: Path) -> None:
    text = SHORT.replace('duration = "20s"\n', "") + 'stop = "7s"\n'
    assert loaded(tmp_path, text).duration_ns == 7 * 10**9


def test_overrides(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path, TIMED, "flows.*.buffer=115MB", "links.*.rate=1Gb/s", "links.fast.delay=1ms",
        "tunables.path_manager=kernel", "tunables.ndiffports = 3", "timeline.1.at=5s",
        "hosts.bob.tunables.checksum=true", "hosts.*.cpu=2012", 'flows.main.links=["fast"]',
        "links.slow.queue=1MB",
    )  # fmt: skip
    flow, link = scenario.flows[0], scenario.topology.link("fast")
    assert flow.send_buffer_bytes == flow.receive_buffer_bytes == 115_000_000
    assert {link.forward.rate_bps for link in scenario.topology.links} == {10**9}
    assert link.rtt_ns == 2_000_000  # the file's rtt gave way
    assert scenario.tunables["alice"].path_manager == "kernel"
    assert scenario.tunables["alice"].ndiffports == 3
    assert not scenario.tunables["alice"].checksum
    assert scenario.tunables["bob"].checksum
    assert scenario.timeline[0].at_ns == 5 * 10**9
    assert {host.cpu for host in scenario.topology.hosts} == {"2012"}
    assert len(scenario.expected_subflows(flow)) == 3
    assert scenario.overrides[0] == "flows.*.buffer=115MB"


def test_tunables_of_one_host_lie_over_those_of_all(tmp_path: Path) -> None:
    text = SHORT.replace('hosts = ["alice", "bob"]\n', "") + (
        "[tunables]\nchecksum = true\nndiffports = 2\nclose_timeout = 30\n"
        '[tunables.sysctls]\n"net.ipv4.tcp_sack" = 0\n"net.ipv4.tcp_dsack" = 1\n'
        '[hosts.alice.tunables]\nndiffports = 0\nsysctls = { "net.ipv4.tcp_dsack" = 0 }\n'
        '[hosts.bob]\nstack = "ours"\ntunables = { checksum = false, tcp_retries2 = 5 }\n'
    )
    tunables = loaded(tmp_path, text).tunables
    assert tunables["alice"] == Tunables(
        checksum=True, ndiffports=0, close_timeout_s=30,
        sysctls=(("net.ipv4.tcp_dsack", "0"), ("net.ipv4.tcp_sack", "0")),
    )  # fmt: skip
    assert tunables["bob"] == Tunables(ndiffports=2, close_timeout_s=30, retries2=5)


def test_buffers_apart(tmp_path: Path) -> None:
    text = SHORT + 'buffer = "2MB"\nreceive_buffer = "3MB"\n'
    flow = loaded(tmp_path, text).flows[0]
    assert (flow.send_buffer_bytes, flow.receive_buffer_bytes) == (2_000_000, 3_000_000)
    flow = loaded(tmp_path, text, "flows.*.buffer=4MB").flows[0]
    assert (flow.send_buffer_bytes, flow.receive_buffer_bytes) == (4_000_000, 4_000_000)


def test_expected_subflows(tmp_path: Path) -> None:
    def links(*overrides: str) -> list[tuple[str, ...]]:
        scenario = loaded(tmp_path, SHORT, *overrides)
        return [path.links for path in scenario.expected_subflows(scenario.flows[0])]

    assert links() == [("fast",), ("slow",)]
    assert links('flows.main.links=["slow", "fast"]') == [("slow",), ("fast",)]
    assert links("flows.main.links=slow") == [("slow",)]
    assert links("tunables.ndiffports=0") == [("fast",)]
    assert links("tunables.ndiffports=2") == [("fast",), ("fast",)]
    assert links("flows.main.protocol=tcp") == [("fast",)]
    assert links("hosts.bob.tunables.enabled=false") == [("fast",)]


def test_the_initial_subflow_in_the_family_asked_for(tmp_path: Path) -> None:
    text = 'families = ["ipv4", "ipv6"]\n' + SHORT
    scenario = loaded(tmp_path, text, "flows.main.family=ipv6")
    paths = scenario.expected_subflows(scenario.flows[0])
    assert [(path.links, path.local_address.version) for path in paths] == [
        (("fast",), 6), (("fast",), 4), (("slow",), 6), (("slow",), 4)
    ]  # fmt: skip


def test_multipath_off_is_for_plain_tcp_only(tmp_path: Path) -> None:
    text = SHORT.replace('hosts = ["alice", "bob"]\n', "") + (
        "[hosts.alice]\ninterfaces = { a0 = { multipath = false }, a1 = {} }\n[hosts.bob]\n"
    )
    text = text.replace('["alice", "bob"]', '["alice:a0", "bob"]', 1)
    text = text.replace('["alice", "bob"]', '["alice:a1", "bob"]', 1)
    assert loaded(tmp_path, text).flows[0].links == ("slow",)
    assert loaded(tmp_path, text, "flows.main.protocol=tcp").flows[0].links == ("fast", "slow")


def test_a_topology_of_ones_own(tmp_path: Path) -> None:
    links = SHORT[SHORT.index("[links.fast]") : SHORT.index("[flows")]
    (tmp_path / "net.toml").write_text(f'title = "two"\nhosts = ["alice", "bob"]\n{links}')
    scenario = loaded(
        tmp_path,
        'duration = "5s"\ntopology = "net.toml"\nuse = ["fast"]\n[links.fast]\nrate = "1Mb/s"\n'
        'queue = "20ms"\n[flows.f]\nfrom = "alice"\nto = "bob"\n',
    )
    (link,) = scenario.topology.links
    assert link.forward.rate_bps == 1_000_000
    assert link.rtt_ns == 20_000_000
    assert addresses(scenario) == {"alice:eth0": ["10.0.1.1/24"], "bob:eth0": ["10.0.1.2/24"]}
    assert is_topology(tmp_path / "net.toml")
    assert not is_topology(tmp_path / "test.toml")
    assert is_topology("report")
    assert not is_topology("A")
    assert len(load_topology(tmp_path / "net.toml").links) == 2
    assert len(load_topology(tmp_path / "test.toml").links) == 1
    assert [link.name for link in load_topology("B").links] == ["link6", "link5"]


def test_a_link_of_the_topology_changed_in_one_direction(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(
        'hosts = ["a", "b"]\n[links.x]\nbetween = ["a", "b"]\nrtt = "8ms"\n'
        'backward = { rate = "3Mb/s", loss = "1%" }\n'
    )
    scenario = loaded(
        tmp_path,
        'duration = "5s"\ntopology = "net.toml"\n[links.x]\n'
        'forward = { rate = "2Mb/s" }\nrate = "1Mb/s"\n',
    )
    link = scenario.topology.link("x")
    assert (link.forward.rate_bps, link.backward.rate_bps) == (2_000_000, 1_000_000)
    assert (link.backward.loss, link.rtt_ns) == (0.01, 8_000_000)


def test_ports_and_captures(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path,
        'duration = "1s"\ncaptures = "b:eth0"\nsnaplen = 96\nhosts = ["a", "b"]\n'
        '[switches.s]\nports = ["b:eth0"]\n[links.x]\nbetween = ["a", "s"]\nmtu = 9000\n'
        '[flows.f]\nfrom = "a"\nto = "b"\nclient = "b"\n',
    )
    assert scenario.captures == (InterfaceEnd("b", "eth0"),)
    assert scenario.snaplen_bytes == 96
    assert scenario.topology.link("x").b == SwitchEnd("s")
    assert scenario.topology.interface_at(InterfaceEnd("b", "eth0")).mtu == 9000
    (path,) = scenario.paths(scenario.flows[0])
    assert path.local.host == "b"
    assert scenario.topology.directions(path) == (("x", "backward"),)


def test_striping_is_over_tcp(tmp_path: Path) -> None:
    flow = loaded(tmp_path, SHORT + 'application = "striped"\n').flows[0]
    assert (flow.protocol, flow.verify) == ("tcp", True)
    assert not loaded(tmp_path, SHORT + 'application = "iperf3"\n').flows[0].verify


def test_seed_and_interval(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, SHORT, seed=7, interval_ns=100_000_000)
    assert (scenario.seed, scenario.interval_ns) == (7, 100_000_000)


def test_a_point_is_checked_beside_its_own_measurements_alone(tmp_path: Path) -> None:
    sweep = """
[sweep]
points = [
  { label = "one", set = ['use=["fast"]'] },
  { label = "both", set = [], measured = [{ of = "slow", value = "1Mb/s", source = "a table" }] },
]
"""
    assert [point.label for point in loaded(tmp_path, SHORT + sweep).sweep.points] == [
        "one",
        "both",
    ]
    alone = sweep.replace("set = [],", "set = ['use=[\"fast\"]'],")
    with pytest.raises(ScenarioError, match=r'"both" gives: .*sweep\.points\.1\.measured\.0\.of'):
        loaded(tmp_path, SHORT + alone)


def test_the_work_of_checking_points_grows_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = 0
    read_section = read.read_section

    def counted(*arguments: Any) -> Any:
        nonlocal sections
        sections += 1
        return read_section(*arguments)

    monkeypatch.setattr(read, "read_section", counted)
    counts = []
    for points in (20, 40, 60):
        sections = 0
        rows = ",".join(f'{{ label = "{n}", set = ["duration={n + 1}s"] }}' for n in range(points))
        loaded(tmp_path, f"{SHORT}\n[sweep]\npoints = [{rows}]\n")
        counts.append(sections)
    assert counts[1] - counts[0] == counts[2] - counts[1]


def links_in_parallel(count: int) -> str:
    links = (f'[links.l{n}]\nbetween = ["a", "b"]\nrate = "1Mb/s"' for n in range(count))
    return "\n".join(('duration = "1s"\nhosts = ["a", "b"]', *links, FLOW))


def switches_in_a_chain(count: int) -> str:
    nodes = ["a", *(f"s{n}" for n in range(count)), "b"]
    links = (f'[links.l{n}]\nbetween = ["{nodes[n]}", "{nodes[n + 1]}"]' for n in range(count + 1))
    switches = (f"[switches.s{n}]" for n in range(count))
    return "\n".join(('duration = "1s"\nhosts = ["a", "b"]', *switches, *links, FLOW))


FLOW = '[flows.f]\nfrom = "a"\nto = "b"'


@pytest.mark.parametrize("network", [links_in_parallel, switches_in_a_chain])
def test_the_work_of_resolving_a_network_grows_with_its_size(
    tmp_path: Path, network: Callable[[int], str]
) -> None:
    calls = []
    for size in (40, 80, 120):
        profile = cProfile.Profile()
        profile.runcall(loaded, tmp_path, network(size))
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[2] - calls[1] < 1.2 * (calls[1] - calls[0])


def test_rates_of_applications(tmp_path: Path) -> None:
    text = SHORT + 'write_rate = "5Mb/s"\nread_rate = "2Mb/s"\n'
    (flow,) = loaded(tmp_path, text).flows
    assert (flow.write_rate_bps, flow.read_rate_bps) == (5_000_000, 2_000_000)
    for override, problem in (
        ("flows.main.write_rate=0", "write_rate: 0 is too small"),
        ("flows.main.application=striped", "write_rate: is not for application"),
        ("flows.main.application=iperf3", "read_rate: iperf3 reads as fast"),
    ):
        with pytest.raises(ScenarioError, match=problem):
            loaded(tmp_path, text, override)

"""Whatever a file holds, it loads or is refused with a ScenarioError; what loads is sound."""

import json
from collections.abc import Iterator
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.toml_text import toml, written
from tests.search import cases

from mptcplab.scenario import Scenario, ScenarioError, load
from mptcplab.scenario.schema.json_schema import json_schema
from mptcplab.scenario.schema.keys import SCENARIO, sections
from mptcplab.scenario.schema.parts import Rows, Section, Table, Tables
from mptcplab.scenario.schema.source_files import read_toml
from mptcplab.scenario.to_json import as_plain

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
SOUND: dict[str, Any] = {
    "duration": "30s",
    "hosts": {"alice": {"nics": {"n0": "1Gb/s"}, "interfaces": {"n0.7": {}}}, "bob": {}},
    "links": {
        "fast": {"between": ["alice:n0.7", "bob"], "rate": "100Mb/s", "rtt": "20ms"},
        "slow": {"between": ["alice:n0.8", "bob"], "rate": "20Mb/s", "queue": "50ms"},
    },
    "flows": {"main": {"from": "alice", "to": "bob", "buffer": "2MB"}},
    "timeline": [{"at": "10s", "down": "slow"}, {"at": "20s", "change": "fast", "loss": "1%"}],
    "tunables": {"mss": 1400},
    "expect": [{"goodput": "100Mb/s", "stage": 1}],
    "sweep": {"points": [{"label": "x", "set": ["flows.*.buffer=3MB"]}]},
}
SOUND["hosts"]["alice"]["interfaces"]["n0.8"] = {}
KEYS = sorted({key for section in sections() for key in section.keys})
VALUES = st.one_of(
    st.booleans(),
    st.integers(-3, 10**6),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(
        [
            "1Gb/s",
            "5MB",
            "20ms",
            "-1s",
            "150%",
            "1 BDP",
            "0 packets",
            "alice",
            "bob",
            "fast",
            "x",
            "total",
            "10.0.0.1/24",
            "fd00::1/64",
            "ipv6",
            "mptcp",
            "tcp",
            "ours",
            "",
            "a:b",
            "é\n",
        ]
    ),
    st.text(max_size=4),
    st.lists(st.sampled_from(["fast", "slow", "alice", "10.0.0.1/24"]), max_size=3),
    st.builds(dict),
    st.builds(lambda: [{}]),
)
SLOWLY = settings(
    max_examples=cases(150),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def loaded_or_error(path: Path, **arguments: Any) -> Scenario | ScenarioError:
    try:
        return load(path, **arguments)
    except ScenarioError as error:
        return error


def tables_of(tree: Any, section: Section) -> Iterator[tuple[dict[str, Any], Section]]:
    """Yield every table of a tree with its section of the schema."""
    if not isinstance(tree, dict):
        return
    yield tree, section
    for name, key in section.keys.items():
        below = tree.get(name)
        if isinstance(key.kind, Table):
            yield from tables_of(below, key.kind.section)
        elif isinstance(key.kind, Tables) and isinstance(below, dict):
            for entry in below.values():
                yield from tables_of(entry, key.kind.section)
        elif isinstance(key.kind, Rows) and isinstance(below, list):
            for row in below:
                yield from tables_of(row, key.kind.section)


@st.composite
def edited(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the sound scenario with one to three edits anywhere, most of them of known keys."""
    tree = deepcopy(SOUND)
    for _ in range(draw(st.integers(1, 3))):
        tables = list(tables_of(tree, SCENARIO))
        table, section = tables[draw(st.integers(0, len(tables) - 1))]
        key = draw(st.sampled_from(sorted({*table, *section.keys, "xyz"})))
        if key in table and draw(st.booleans()):
            del table[key]
        else:
            table[key] = draw(VALUES)
    return tree


def check_sound(scenario: Scenario) -> None:
    """Assert what a testbed takes for granted."""
    addresses = [
        address
        for host in scenario.topology.hosts
        for interface in host.interfaces
        for address in interface.addresses
    ]
    assert len({address.ip for address in addresses}) == len(addresses)
    networks = {address.network for address in addresses}
    assert not any(
        one.version == two.version and one.overlaps(two) for one, two in combinations(networks, 2)
    )
    assert all(interface.addresses for host in scenario.topology.hosts for interface in
               host.interfaces)  # fmt: skip
    for flow in scenario.flows:
        assert scenario.expected_subflows(flow)
        assert flow.links
        assert 0 <= flow.start_ns < (flow.stop_ns or scenario.duration_ns) <= scenario.duration_ns
    stages = scenario.stages()
    assert stages[0][0] == 0
    assert stages[-1][1] == scenario.duration_ns
    json.dumps(as_plain(scenario))


@pytest.mark.slow
@SLOWLY
@given(tree=edited())
def test_any_file_loads_or_is_refused(tree: dict[str, Any], tmp_path: Path) -> None:
    path = written(tree, tmp_path)
    scenario = loaded_or_error(path)
    if isinstance(scenario, ScenarioError):
        assert all(each.file and each.problem for each in scenario.errors)
        return
    check_sound(scenario)
    assert VALIDATOR.is_valid(read_toml(path))  # the editor's schema is no stricter


@pytest.mark.slow
@SLOWLY
@given(
    target=st.sampled_from(["links.*", "flows.*", "hosts.*", "tunables", "timeline.0", ""]),
    key=st.sampled_from(KEYS),
    value=VALUES,
)
def test_any_override_applies_or_is_refused(
    target: str, key: str, value: Any, tmp_path: Path
) -> None:
    path = written(SOUND, tmp_path)
    override = f"{target}{target and '.'}{key}={toml(value)}"
    scenario = loaded_or_error(path, overrides=(override,))
    if isinstance(scenario, ScenarioError):
        assert override in str(scenario) or str(path) in str(scenario)
    else:
        check_sound(scenario)


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    """Draw hosts, some behind a switch, and links between them."""
    hosts = [f"h{number}" for number in range(draw(st.integers(2, 4)))]
    ends = [*hosts, "s"]
    pairs = st.tuples(st.sampled_from(hosts), st.sampled_from(ends)).filter(lambda p: p[0] != p[1])
    links = {
        f"l{number}": {"between": list(pair), "rtt": f"{number}ms", "rate": "1Gb/s"}
        for number, pair in enumerate(draw(st.lists(pairs, min_size=1, max_size=4)))
    }
    families = draw(st.sampled_from([["ipv4"], ["ipv6"], ["ipv4", "ipv6"]]))
    return {
        "duration": "1s", "families": families, "hosts": hosts, "switches": ["s"], "links": links
    }  # fmt: skip


@pytest.mark.slow
@SLOWLY
@given(tree=networks())
def test_derivation_is_sound_and_deterministic(tree: dict[str, Any], tmp_path: Path) -> None:
    path = written(tree, tmp_path)
    scenario = load(path)
    check_sound(scenario)
    assert scenario == load(path)
    for one, two in combinations(scenario.topology.hosts, 2):
        there = scenario.topology.paths(one.name, two.name)
        back = scenario.topology.paths(two.name, one.name)
        assert len(there) == len(back)
        for way in there:
            assert way.local_address.network == way.remote_address.network
            assert [name for name, _ in scenario.topology.directions(way)] == list(way.links)


@pytest.mark.slow
@SLOWLY
@given(scale=st.fractions("1/1000", 50).map(float))
def test_scaling_touches_times_only(scale: float, tmp_path: Path) -> None:
    path = written(SOUND, tmp_path)
    whole = load(path)
    scaled = loaded_or_error(path, time_scale=scale)
    if isinstance(scaled, ScenarioError):
        assert scaled.key == "interval"  # too short for one sample
        return
    assert scaled.topology == whole.topology
    assert scaled.tunables == whole.tunables
    assert len(scaled.stages()) == len(whole.stages())
    for (start, end), (whole_start, whole_end) in zip(scaled.stages(), whole.stages(), strict=True):
        assert abs(start - whole_start * scale) <= 1
        assert abs(end - whole_end * scale) <= 1


def test_every_section_is_reachable() -> None:
    def below(section: Section) -> set[str]:
        names = {section.name}
        for key in section.keys.values():
            if isinstance(key.kind, Table | Tables | Rows):
                names |= below(key.kind.section)
        return names

    assert below(SCENARIO) == {section.name for section in sections()}

"""Load a scenario or a topology: read, check whole, resolve, scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from mptcplab.network.topology import InterfaceEnd, Topology
from mptcplab.plain_text import printable
from mptcplab.scenario.copies import with_copies
from mptcplab.scenario.errors import Problems, ScenarioError, nearest
from mptcplab.scenario.generate import expanded
from mptcplab.scenario.model import Scenario
from mptcplab.scenario.plugins import check_plugins
from mptcplab.scenario.resolve.amounts import check_amounts, check_connections
from mptcplab.scenario.resolve.endpoints import build_endpoints, check_links
from mptcplab.scenario.resolve.expectations import (
    build_expectations,
    build_latency_expectations,
    build_report,
    build_sweep,
)
from mptcplab.scenario.resolve.flows import build_flows
from mptcplab.scenario.resolve.names import note_unknown_names
from mptcplab.scenario.resolve.network import build_topology, chosen
from mptcplab.scenario.resolve.time_scaling import MIN_INTERVAL_NS, scaled
from mptcplab.scenario.resolve.timeline import build_timeline
from mptcplab.scenario.resolve.traces import read_traces
from mptcplab.scenario.resolve.tunables import build_tunables, check_mss
from mptcplab.scenario.schema.keys import SCENARIO, TOPOLOGY
from mptcplab.scenario.schema.read import read_section
from mptcplab.scenario.schema.source_files import (
    EXAMPLES,
    Source,
    built_in,
    built_in_scenarios,
    is_file,
    is_outside,
    locate,
    normalised,
    open_source,
    read_toml,
    withheld,
)
from mptcplab.units import format_duration

Values = dict[str, Any]


def load(
    path_or_name: str | FilePath,
    *,
    duration_ns: int | None = None,
    time_scale: float | None = None,
    interval_ns: int | None = None,
    overrides: tuple[str, ...] = (),
    seed: int | None = None,
    check_points: bool = True,
    plugins: bool = False,
) -> Scenario:
    """Return the scenario of a file or of a built-in name ("A", "examples/wifi-and-lte").

    ``overrides`` are ``KEY=VALUE`` texts as ``--set`` takes them.  ``duration_ns`` or
    ``time_scale`` scale all times of timeline and flows; links, ``settle`` times and sizes stay as
    they are.  ``check_points`` is False for a point of a sweep: the other points hold for the
    scenario without it, not for this one.  ``plugins`` lets the scenario name classes of your own
    (``module:Class``), whose code then runs; see :mod:`mptcplab.scenario.plugins`.  Raises
    ScenarioError, or CombinedScenarioError for several, before anything is built.
    """
    path = locate(str(path_or_name), built_in_scenarios(), "experiment")
    source = _opened(path)
    scenario = _resolved(path, source, overrides, plugins)
    scenario = scaled(scenario, duration_ns, time_scale)
    if seed is not None and not 0 <= seed < 2**63:
        raise ScenarioError(
            "--seed", "seed", f"{seed} is out of range", "a number from 0 to 2^63 - 1"
        )
    if interval_ns is not None or seed is not None:
        scenario = replace(
            scenario,
            interval_ns=scenario.interval_ns if interval_ns is None else interval_ns,
            seed=scenario.seed if seed is None else seed,
        )
    if not MIN_INTERVAL_NS <= scenario.interval_ns <= scenario.duration_ns:
        where = "--interval" if interval_ns is not None else str(path)
        raise ScenarioError(
            where,
            "interval",
            f"{format_duration(scenario.interval_ns)} does not fit",
            f"10 ms at least, and at most the duration of {format_duration(scenario.duration_ns)}",
        )
    if check_points:
        _check_sweep(scenario, path, source, overrides, plugins)
    return scenario


def load_topology(path_or_name: str | FilePath, *, overrides: tuple[str, ...] = ()) -> Topology:
    """Return the whole network of a topology file, a built-in one ("report") or a scenario.

    ``overrides`` are as in :func:`load`.  Links that a scenario does not use are left out.
    """
    path = _network_file(str(path_or_name))
    if is_topology(path):
        source, section = Source(str(path), normalised(TOPOLOGY, read_toml(path))), TOPOLOGY
    else:
        source, section = _opened(path), SCENARIO
    for override in overrides:
        source.apply(override, section, partial(_expanded, source))
    problems = Problems(source.place)
    source.tree = with_copies(expanded(source.tree, problems, flows=section is SCENARIO), problems)
    check_amounts(source.tree, problems)
    values = read_section(section, normalised(section, source.tree), (), problems)
    read_traces(values, source, problems)
    if not source.tree.get("hosts"):
        problems.add(("hosts",), "there are none", 'hosts = ["alice", "bob"]')
    problems.raise_any()
    topology = build_topology(printable(path.stem), values, problems)
    return chosen(topology, values.get("use"), ("use",), problems)


def _opened(path: FilePath) -> Source:
    """Return the source of a scenario; ScenarioError where its topology cannot be read.

    What is wrong with a topology elsewhere is told by itself, without what the file holds.
    """
    source = open_source(path)
    beside = FilePath(source.topology_file)
    if source.topology_file and is_outside(beside, path):
        try:
            load_topology(beside)
        except ScenarioError:
            raise withheld(beside, path) from None
    return source


def _network_file(name: str) -> FilePath:
    if not is_file(FilePath(name)) and name.lower() in built_in_scenarios():
        return built_in_scenarios()[name.lower()]
    return locate(name, built_in("topologies"), "topology")


def is_topology(path_or_name: str | FilePath) -> bool:
    """Return whether a file or built-in name is a network alone, not a scenario."""
    name = str(path_or_name)
    if not is_file(FilePath(name)):
        return name.lower() in built_in("topologies")
    raw = read_toml(FilePath(name))
    return bool(raw) and not any(key not in TOPOLOGY.keys for key in raw)


@dataclass(frozen=True, slots=True)
class Summary:
    """An entry in the list of experiments or examples."""

    name: str
    title: str
    question: str
    section: str
    path: FilePath
    figures: tuple[int, ...] = ()
    """The report's figures of it; those that have any are what ``reproduce`` runs by itself."""
    lesson: str = ""


def experiments() -> tuple[Summary, ...]:
    """Return the experiments of the 2012 report that come with the package, by name."""
    return tuple(_summary(name.upper(), path) for name, path in built_in("experiments").items())


def examples() -> tuple[Summary, ...]:
    """Return the other scenarios that come with the package, by name: "examples/wifi-and-lte"."""
    return tuple(
        _summary(name, path)
        for name, path in built_in_scenarios().items()
        if name.startswith(EXAMPLES)
    )


def _summary(name: str, path: FilePath) -> Summary:
    raw = read_toml(path)
    report = raw.get("report", {})
    return Summary(
        name,
        raw.get("title", ""),
        raw.get("question", ""),
        report.get("section", ""),
        path,
        tuple(report.get("figures", ())),
        raw.get("lesson", ""),
    )


def _resolved(
    path: FilePath, source: Source, overrides: tuple[str, ...], plugins: bool
) -> Scenario:
    """Return the scenario that the files of ``source`` give with ``overrides``."""
    source = source.fresh()
    for override in overrides:
        source.apply(override, expand=partial(_expanded, source))
    return _built(path, source, overrides, plugins)


def _expanded(source: Source, tree: Values) -> Values:
    return expanded(tree, Problems(source.place))


def _built(path: FilePath, source: Source, overrides: tuple[str, ...], plugins: bool) -> Scenario:
    problems = Problems(source.place)
    source.tree = with_copies(expanded(source.tree, problems), problems)
    check_amounts(source.tree, problems)
    values = read_section(SCENARIO, normalised(SCENARIO, source.tree), (), problems)
    read_traces(values, source, problems)
    if not source.tree.get("hosts"):
        problems.add(("hosts",), "there are none", 'hosts = ["alice", "bob"], or a topology')
    duration_ns = 1 if "duration" in source.tree else _duration(values, problems)
    note_unknown_names(values, problems)
    problems.raise_any()
    check_connections(sum(flow["connections"] for flow in values["flows"].values()), problems)
    duration_ns = values["duration"] or duration_ns
    name = printable(path.stem)
    whole = build_topology(values["topology"] or name, values, problems)
    topology = chosen(whole, values["use"], ("use",), problems)
    flows = build_flows(values["flows"], topology, duration_ns, path.parent, problems)
    names = {host.name: values["hosts"][host.name]["endpoints"] for host in topology.hosts}
    timeline, flows = build_timeline(
        values["timeline"], topology, flows, names, duration_ns, problems
    )
    tunables = build_tunables(values, topology, problems)
    scenario = Scenario(
        name=path.stem.upper() if path == built_in("experiments").get(path.stem) else name,
        title=values["title"],
        question=values["question"],
        lesson=values["lesson"],
        duration_ns=duration_ns,
        topology=topology,
        flows=flows,
        timeline=timeline,
        tunables=tunables,
        interval_ns=values["interval"],
        seed=values["seed"],
        trains=values["trains"],
        source=str(path),
        overrides=overrides,
        repetitions=values["repetitions"],
        settle_ns=values["settle"],
        start_jitter_ns=values["start_jitter"],
        processing_jitter_ns=values["processing_jitter"],
        captures=_captures(values["captures"], topology, problems),
        snaplen_bytes=values["snaplen"],
        ssh={
            host.name: values["hosts"][host.name]["ssh"]
            for host in topology.hosts
            if values["hosts"][host.name]["ssh"]
        },
    )
    scenario = replace(scenario, endpoints=build_endpoints(scenario, values, problems))
    check_links(scenario, problems)
    check_mss(scenario, values, problems)
    if not plugins:
        check_plugins(scenario, problems)
    scenario = replace(
        scenario,
        report=build_report(values["report"], scenario, problems),
        expectations=build_expectations(values["expect"], scenario, problems),
        latency_expectations=build_latency_expectations(values["expect"], scenario, problems),
        sweep=build_sweep(values["sweep"], scenario, problems),
    )
    problems.raise_any()
    return scenario


def _duration(values: Values, problems: Problems) -> int:
    stops = [flow["stop"] for flow in values["flows"].values()]
    if stops and all(stops):
        return int(max(stops))
    endless = [name for name, flow in values["flows"].items() if not flow["stop"]]
    also = f" and {', '.join(endless)} has no stop" if endless else ""
    problems.add(("duration",), f"is missing{also}", 'such as duration = "60s"')
    return 1


def _captures(
    names: tuple[str, ...], topology: Topology, problems: Problems
) -> tuple[InterfaceEnd, ...]:
    known = {
        f"{host.name}:{interface.name}": InterfaceEnd(host.name, interface.name)
        for host in topology.hosts
        for interface in host.interfaces
    }
    for name in names:
        if name not in known:
            problems.add(
                ("captures",),
                f'there is no interface "{name}" among those built',
                f"one of {', '.join(known)}",
                nearest(name, known),
            )
    return tuple(known[name] for name in names if name in known)


def _check_sweep(
    scenario: Scenario,
    path: FilePath,
    source: Source,
    overrides: tuple[str, ...],
    plugins: bool,
) -> None:
    """Raise ScenarioError where a point of the sweep does not give a valid scenario.

    Of keys with lists each value is tried by itself; what combinations give is for the sweep.
    """
    source = source.fresh()
    for override in overrides:
        source.apply(override, expand=partial(_expanded, source))
    listed = [*scenario.sweep.over, *(() if scenario.sweep.points else scenario.sweep.zipped)]
    for key, texts in listed:
        for text in texts:
            try:
                alone = source.without_sweep()
                alone.apply(f"{key}={text}", expand=partial(_expanded, alone))
                _built(path, alone, overrides, plugins)
            except ScenarioError as error:
                first = error.errors[0]
                problem = f"{key} = {text} gives: {first.key}: {first.problem}"
                raise ScenarioError(
                    str(path), "sweep", problem, first.expected, first.hint
                ) from error
    for index, point in enumerate(scenario.sweep.points):
        try:
            alone = source.at_point(index)
            for override in point.overrides:
                alone.apply(override, expand=partial(_expanded, alone))
            _built(path, alone, (*overrides, *point.overrides), plugins)
        except ScenarioError as error:
            first = error.errors[0]
            key = first.key.replace("sweep.points.0.", f"sweep.points.{index}.", 1)
            said = ": ".join(part for part in (first.file, key, first.problem) if part)
            problem = f'"{point.label}" gives: {said}'
            raise ScenarioError(
                str(path), f"sweep.points.{index}.set", problem, first.expected, first.hint
            ) from error

"""Load a scenario or a topology: read, check whole, resolve, scale."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any

from mptcplab.network.topology import InterfaceEnd, Topology
from mptcplab.scenario.errors import Path, Problems, ScenarioError, nearest
from mptcplab.scenario.model import (
    Action,
    Expectation,
    Flow,
    Measured,
    Report,
    Scenario,
    Sweep,
    SweepPoint,
    Tunables,
)
from mptcplab.scenario.network import build_topology, check_endpoints, chosen
from mptcplab.scenario.read import read_section
from mptcplab.scenario.schema import SCENARIO, TOPOLOGY
from mptcplab.scenario.source import (
    Source,
    built_in,
    locate,
    normalised,
    open_source,
    read_toml,
)
from mptcplab.scenario.timeline import build_timeline
from mptcplab.scenario.traffic import build_flows
from mptcplab.units import format_duration

Values = dict[str, Any]
MIN_INTERVAL_NS = 10_000_000
IPV4_TCP_HEADER_BYTES = 40  # RFC 9293 section 3.7.1: MSS is the MTU less the fixed headers
IPV6_TCP_HEADER_BYTES = 60


def load(
    path_or_name: str | FilePath,
    *,
    duration_ns: int | None = None,
    time_scale: float | None = None,
    interval_ns: int | None = None,
    overrides: tuple[str, ...] = (),
    seed: int | None = None,
) -> Scenario:
    """Return the scenario of a file or of a built-in experiment ("A").

    ``overrides`` are ``KEY=VALUE`` texts as ``--set`` takes them.  ``duration_ns`` or
    ``time_scale`` scale all times of timeline and flows, and nothing of the links; ``settle`` times
    and sizes stay too.  Raises ScenarioError, or CombinedScenarioError for several, before anything
    is built.
    """
    path = locate(str(path_or_name), "experiments", "experiment")
    scenario = _resolved(path, overrides)
    scenario = _scaled(scenario, duration_ns, time_scale)
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
    _check_sweep(scenario, path, overrides)
    return scenario


def load_topology(path_or_name: str | FilePath, *, overrides: tuple[str, ...] = ()) -> Topology:
    """Return the whole network of a topology file, a built-in one ("report") or a scenario.

    ``overrides`` as in :func:`load`; of a scenario, the links it does not use are left out.
    """
    name = str(path_or_name)
    known = built_in("topologies")
    if not FilePath(name).is_file() and name.lower() in built_in("experiments"):
        known = built_in("experiments")
    path = known.get(name.lower()) if not FilePath(name).is_file() else None
    path = path or locate(name, "topologies", "topology")
    raw = read_toml(path)
    if any(key in raw for key in SCENARIO.keys if key not in TOPOLOGY.keys):
        source, section = open_source(path), SCENARIO
    else:
        source, section = Source(str(path), normalised(TOPOLOGY, raw)), TOPOLOGY
    for override in overrides:
        source.apply(override, section)
    problems = Problems(source.origin)
    values = read_section(section, normalised(section, source.tree), (), problems)
    problems.raise_any()
    topology = build_topology(path.stem, values, problems)
    return chosen(topology, values.get("use"), ("use",), problems)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list of experiments shows of one."""

    name: str
    title: str
    question: str
    section: str
    path: FilePath


def experiments() -> tuple[Summary, ...]:
    """Return the experiments that come with the package, by name."""
    found = []
    for name, path in built_in("experiments").items():
        raw = read_toml(path)
        section = raw.get("report", {}).get("section", "")
        found.append(
            Summary(name.upper(), raw.get("title", ""), raw.get("question", ""), section, path)
        )
    return tuple(found)


def _resolved(path: FilePath, overrides: tuple[str, ...]) -> Scenario:
    source = open_source(path)
    for override in overrides:
        source.apply(override)
    problems = Problems(source.origin)
    values = read_section(SCENARIO, normalised(SCENARIO, source.tree), (), problems)
    if not values["hosts"]:
        problems.add(("hosts",), "there are none", 'hosts = ["alice", "bob"], or topology = ...')
    duration_ns = _duration(values, problems)
    problems.raise_any()
    whole = build_topology(values["topology"] or path.stem, values, problems)
    topology = chosen(whole, values["use"], ("use",), problems)
    flows = build_flows(values["flows"], topology, duration_ns, problems)
    timeline, flows = build_timeline(values["timeline"], topology, flows, duration_ns, problems)
    check_endpoints(topology, problems)
    tunables = _tunables(values, topology, problems)
    scenario = Scenario(
        name=path.stem.upper() if path == built_in("experiments").get(path.stem) else path.stem,
        title=values["title"],
        question=values["question"],
        duration_ns=duration_ns,
        topology=topology,
        flows=flows,
        timeline=timeline,
        tunables=tunables,
        interval_ns=values["interval"],
        seed=values["seed"],
        source=str(path),
        overrides=overrides,
        repetitions=values["repetitions"],
        captures=_captures(values["captures"], topology, problems),
        snaplen_bytes=values["snaplen"],
    )
    _check_mss(scenario, problems)
    _check_subflows(scenario, problems)
    scenario = replace(
        scenario,
        report=_report(values["report"], scenario, problems),
        expectations=_expectations(values["expect"], scenario, problems),
        sweep=_sweep(values["sweep"], scenario, problems),
    )
    problems.raise_any()
    return scenario


def _duration(values: Values, problems: Problems) -> int:
    if values["duration"] is not None:
        return int(values["duration"])
    stops = [flow["stop"] for flow in values["flows"].values()]
    if stops and all(stops):
        return int(max(stops))
    endless = [name for name, flow in values["flows"].items() if not flow["stop"]]
    also = f" and {', '.join(endless)} has no stop" if endless else ""
    problems.add(("duration",), f"is missing{also}", 'such as duration = "60s"')
    return 1


# Tunables


def _tunables(values: Values, topology: Topology, problems: Problems) -> dict[str, Tunables]:
    given = values["tunables"] or {}
    result = {}
    for host in topology.hosts:
        own = values["hosts"].get(host.name, {}).get("tunables")
        path: Path = ("hosts", host.name, "tunables") if own else ("tunables",)
        result[host.name] = _tunables_of(_overlaid(given, own or {}), path, problems)
        if result[host.name].sysctls and host.stack == "ours":
            problems.add(
                (*path, "sysctls"),
                f"{host.name} runs our stack, which knows no sysctls",
                'stack = "kernel", or the named tunables',
            )
    return result


def _overlaid(common: Values, own: Values) -> Values:
    defaults = {name: key.default for name, key in _TUNABLE_KEYS.items()}
    result = {**defaults, **common}
    for name, value in own.items():
        if name == "sysctls":
            result[name] = {**(common.get(name) or {}), **value}
        elif value is not None:
            result[name] = value
    return result


_TUNABLE_KEYS = SCENARIO.keys["tunables"].kind.section.keys  # type: ignore[union-attr]
_FIELDS = {
    "receive_buffer_max": "receive_buffer_max_bytes",
    "send_buffer_max": "send_buffer_max_bytes",
    "tcp_rto_max_ms": "rto_max_ms",
    "tcp_retries2": "retries2",
    "close_timeout": "close_timeout_s",
    "add_addr_timeout": "add_addr_timeout_s",
}
_NAMED_SYSCTLS = {
    "net.mptcp.enabled": "enabled",
    "net.mptcp.checksum_enabled": "checksum",
    "net.mptcp.scheduler": "scheduler",
    "net.mptcp.path_manager": "path_manager",
    "net.mptcp.pm_type": "path_manager",
    "net.mptcp.stale_loss_cnt": "stale_loss_cnt",
    "net.mptcp.close_timeout": "close_timeout",
    "net.mptcp.add_addr_timeout": "add_addr_timeout",
    "net.ipv4.tcp_rto_max_ms": "tcp_rto_max_ms",
    "net.ipv4.tcp_retries2": "tcp_retries2",
    "net.ipv4.tcp_rmem": "receive_buffer_max",
    "net.ipv4.tcp_wmem": "send_buffer_max",
}


def _tunables_of(values: Values, path: Path, problems: Problems) -> Tunables:
    arguments: Values = {}
    for name, value in values.items():
        if name in ("close_timeout", "add_addr_timeout") and value is not None:
            if value % 1_000_000_000:
                problems.add(
                    (*path, name), f"{format_duration(value)} is not whole seconds", 'such as "60s"'
                )
            arguments[_FIELDS[name]] = value // 1_000_000_000
        else:
            arguments[_FIELDS.get(name, name)] = value
    sysctls = values.get("sysctls") or {}
    for name in sysctls:
        if name in _NAMED_SYSCTLS:
            problems.add(
                (*path, "sysctls", name),
                "has a name of its own here",
                f"tunables.{_NAMED_SYSCTLS[name]}",
            )
    arguments["sysctls"] = tuple(sorted(sysctls.items()))
    known = {field.name for field in fields(Tunables)}
    return Tunables(**{name: value for name, value in arguments.items() if name in known})


def _check_mss(scenario: Scenario, problems: Problems) -> None:
    """Note a host whose MSS does not fit the MTU of a path that its flows use."""
    for flow in scenario.flows:
        for path in scenario.paths(flow):
            mtus = {name: scenario.topology.link(name).mtu for name in path.links}
            for end in (path.local, path.remote):
                mtus[str(end)] = scenario.topology.interface_at(end).mtu
            narrow = min(mtus, key=lambda name: mtus[name])
            version = path.local_address.version
            headers = IPV4_TCP_HEADER_BYTES if version == 4 else IPV6_TCP_HEADER_BYTES
            for host in (path.local.host, path.remote.host):
                mss = scenario.tunables[host].mss
                if mss is not None and mss + headers > mtus[narrow]:
                    problems.add(
                        ("tunables", "mss"),
                        f"{mss} does not fit the MTU of {mtus[narrow]} on {narrow}",
                        f"{mtus[narrow] - headers} at most (the MTU less {headers} bytes of "
                        f"headers), or a larger mtu",
                    )
                    return


def _check_subflows(scenario: Scenario, problems: Problems) -> None:
    for flow in scenario.flows:
        subflows = len(scenario.expected_subflows(flow))
        kernel = scenario.topology.host(flow.destination).stack == "kernel"
        if kernel and subflows > 9:
            problems.add(
                ("flows", flow.name),
                f"{subflows} subflows for each connection",
                "at most 9: the initial one and the 8 more that Linux up to 6.18 takes",
            )


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


# What was measured and what is expected


def _check_reference(row: Values, path: Path, scenario: Scenario, problems: Problems) -> None:
    stages = len(scenario.stages())
    if row["stage"] is not None and row["stage"] >= stages:
        problems.add(
            (*path, "stage"),
            f"{row['stage']} is no stage: the timeline makes {stages}",
            f"0 to {stages - 1}",
        )
    known = [
        "total",
        *(flow.name for flow in scenario.flows),
        *(link.name for link in scenario.topology.links),
    ]
    if row["of"] not in known:
        problems.add(
            (*path, "of"),
            f'there is no flow or link "{row["of"]}"',
            f"one of {', '.join(known)}",
            nearest(row["of"], known),
        )


def _measured(
    rows: list[Values], path: Path, scenario: Scenario, problems: Problems
) -> tuple[Measured, ...]:
    for index, row in enumerate(rows):
        _check_reference(row, (*path, str(index)), scenario, problems)
    return tuple(
        Measured(row["value"], row["source"], row["stage"], row["of"], row["note"]) for row in rows
    )


def _report(values: Values | None, scenario: Scenario, problems: Problems) -> Report:
    if values is None:
        return Report()
    measured = _measured(values["measured"], ("report", "measured"), scenario, problems)
    return Report(values["section"], values["figures"], measured, values["summary"])


def _expectations(
    rows: list[Values], scenario: Scenario, problems: Problems
) -> tuple[Expectation, ...]:
    found = []
    for index, row in enumerate(rows):
        path = ("expect", str(index))
        _check_reference(row, path, scenario, problems)
        if (row["goodput"] is None) == (row["at_least"] is None):
            problems.add(path, "has not exactly one value", "goodput or at_least")
        at_least = row["at_least"] is not None
        found.append(
            Expectation(
                row["at_least"] if at_least else row["goodput"] or 0,
                row["tolerance"],
                row["stage"],
                row["of"],
                at_least,
                row["settle"],
                row["source"],
            )
        )
    return tuple(found)


def _sweep(values: Values | None, scenario: Scenario, problems: Problems) -> Sweep:
    if values is None:
        return Sweep()
    points = []
    for index, row in enumerate(values["points"] or []):
        path = ("sweep", "points", str(index), "measured")
        points.append(
            SweepPoint(
                row["label"],
                row["set"],
                float(index) if row["x"] is None else row["x"],
                _measured(row["measured"], path, scenario, problems),
            )
        )
    labels = [point.label for point in points]
    for index, label in enumerate(labels):
        if labels.index(label) != index:
            problems.add(
                ("sweep", "points", str(index), "label"),
                f'"{label}" stands there twice',
                "a label for each point",
            )
    return Sweep(values["axis"], tuple(points))


def _check_sweep(scenario: Scenario, path: FilePath, overrides: tuple[str, ...]) -> None:
    """Raise where a point of the sweep makes no scenario."""
    for index, point in enumerate(scenario.sweep.points):
        try:
            _resolved(path, (*overrides, *point.overrides))
        except ScenarioError as error:
            first = error.errors[0]
            raise ScenarioError(
                str(path), f"sweep.points.{index}.set", f'"{point.label}" gives: {first}'
            ) from error


# Time


def _scaled(scenario: Scenario, duration_ns: int | None, time_scale: float | None) -> Scenario:
    if duration_ns is not None and time_scale is not None:
        raise ScenarioError(
            "--duration and --time-scale", "", "both say how long the run is", "one of them"
        )
    scale = Fraction(1)
    if duration_ns is not None:
        if duration_ns <= 0:
            raise ScenarioError("--duration", "", "is nothing", 'a time such as "20s"')
        scale = Fraction(duration_ns, scenario.duration_ns)
    elif time_scale is not None:
        if not 0 < time_scale < float("inf"):
            raise ScenarioError("--time-scale", "", f"{time_scale} is no factor", "such as 0.05")
        scale = Fraction(str(time_scale))
    if scale == 1:
        return _settle_within(scenario)
    return _settle_within(
        replace(
            scenario,
            duration_ns=_times(scenario.duration_ns, scale),
            flows=tuple(_scaled_flow(flow, scale) for flow in scenario.flows),
            timeline=tuple(_scaled_action(action, scale) for action in scenario.timeline),
            time_scale=float(scale),
        )
    )


def _times(time_ns: int, scale: Fraction) -> int:
    return round(time_ns * scale)


def _scaled_flow(flow: Flow, scale: Fraction) -> Flow:
    stop_ns = None if flow.stop_ns is None else _times(flow.stop_ns, scale)
    return replace(flow, start_ns=_times(flow.start_ns, scale), stop_ns=stop_ns)


def _scaled_action(action: Action, scale: Fraction) -> Action:
    return replace(action, at_ns=_times(action.at_ns, scale))


def _settle_within(scenario: Scenario) -> Scenario:
    """Return the scenario with no settling time longer than half of its stage."""
    stages = scenario.stages()

    def limit(expectation: Expectation) -> Expectation:
        start_ns, end_ns = (
            (0, scenario.duration_ns) if expectation.stage is None else stages[expectation.stage]
        )
        return replace(expectation, settle_ns=min(expectation.settle_ns, (end_ns - start_ns) // 2))

    return replace(scenario, expectations=tuple(map(limit, scenario.expectations)))

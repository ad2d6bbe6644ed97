"""A scenario or topology as plain text of 100 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from mptcplab.applications.workloads import Command, GridFtp
from mptcplab.network.impairments import JitterDistribution
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.network.topology import (
    Channel,
    Host,
    InterfaceEnd,
    Link,
    Path,
    Queue,
    Router,
    SwitchEnd,
    Topology,
)
from mptcplab.scenario.box_states import closed_to, interfering
from mptcplab.scenario.buffers import buffer_needs
from mptcplab.scenario.describe_workload import workload_text
from mptcplab.scenario.kernel_limits import beyond_kernels
from mptcplab.scenario.model import (
    KERNEL_SCHEDULERS,
    Expectation,
    Flow,
    Measured,
    Scenario,
    Sweep,
    Tunables,
    is_bpf_object,
)
from mptcplab.scenario.repetition import random_sources
from mptcplab.scenario.resolve.channels import bdp_bytes
from mptcplab.scenario.resolve.timeline import LinkStates, changes_text, own_label
from mptcplab.scenario.schema.keys import KERNEL_COUPLED, SIMULATED_CONGESTION
from mptcplab.text_table import columns, text_width
from mptcplab.units import format_duration, format_rate, format_size

_VERBS = {"set": "change"}
_KINDS = {
    "measured": "2012",
    "derived": "2012, from its text",
    "capacity": "could carry",
}


def describe(scenario: Scenario) -> str:
    """Return what a run of the scenario would build and do."""
    lines = [f"{scenario.name}: {scenario.title}" if scenario.title else scenario.name]
    lines += wrap(scenario.question, text_width())
    lines += wrap(scenario.lesson, text_width(), initial_indent="  ", subsequent_indent="  ")
    scaled = f" (times scaled by {scenario.time_scale:.4g})" if scenario.time_scale != 1 else ""
    lines.append(
        f"{format_duration(scenario.duration_ns)}{scaled}, a sample every "
        f"{format_duration(scenario.interval_ns)}, seed {scenario.seed}"
    )
    lines.append(scenario.source)
    lines += [f"with --set {override}" for override in scenario.overrides]
    lines += wrap(_random(scenario), text_width(), subsequent_indent="  ")
    if scenario.settle_ns:
        lines.append(f"Goodput leaves out the first {format_duration(scenario.settle_ns)}")
    lines += ["", *describe_network(scenario.topology)]
    lines += ["", "Tunables", *_tunables(scenario)]
    if scenario.endpoints:
        lines += ["", "Endpoints", *_endpoints(scenario)]
    lines += ["", "Flows", *_flows(scenario)]
    if scenario.timeline:
        lines += ["", "Timeline", *_timeline(scenario)]
    lines += ["", "Stages", *_stages(scenario)]
    if scenario.sweep != Sweep():
        lines += ["", f"Sweep over {scenario.sweep.axis or 'its points'}", *_sweep(scenario)]
    remarks = list(notes(scenario))
    if remarks:
        lines.append("")
        for remark in remarks:
            lines += wrap(f"Note: {remark}", text_width(), subsequent_indent="  ")
    return "\n".join(lines)


def _random(scenario: Scenario) -> str:
    sources = random_sources(scenario)
    if sources:
        return f"Random in simulation: {', '.join(sources)}"
    return "Random in simulation: nothing, so that every seed gives the same run"


def describe_network(topology: Topology) -> list[str]:
    """Return the lines on hosts, switches and links."""
    lines = ["Hosts"]
    for host in topology.hosts:
        lines += _host(host, topology)
    if topology.switches:
        lines += ["", "Switches"]
        lines += [f"  {line}" for line in _switches(topology)]
    if topology.routers:
        lines += ["", "Routers"]
        for router in topology.routers:
            lines += _router(router, topology)
    lines += ["", "Links"]
    lines += _columns(
        [("name", "from", "to", "rate", "delay", "queue", "BDP", "")]
        + [row for link in topology.links for row in _link(link)],
        headed=True,
    )
    if boxes := list(_boxes(topology)):
        lines += ["", "Middleboxes", *_columns(boxes)]
    return lines


def _columns(rows: Sequence[Sequence[str]], indent: int = 2, *, headed: bool = False) -> list[str]:
    if not rows:
        return []
    return columns(rows, left=len(rows[0]), indent=" " * indent, headed=headed).split("\n")


def _host(host: Host, topology: Topology) -> list[str]:
    cpu = "" if host.cpu == "none" else f" (CPU of {host.cpu} in simulation)"
    offload = "" if host.offload else " (without offload)"
    rates = {nic.name: nic.rate_bps for nic in host.nics}
    rows = []
    for interface in host.interfaces:
        rate_bps = rates[interface.nic]
        nic = f"VLAN {interface.vlan} on {interface.nic}" if interface.vlan else "NIC"
        if rate_bps is not None:
            nic += f", {format_rate(rate_bps)}"
        attached = _attached(topology, InterfaceEnd(host.name, interface.name))
        off = "" if interface.multipath else ", multipath off"
        off += ", backup" if interface.backup else ""
        first, *more = [str(address) for address in interface.addresses] or [""]
        rows.append((interface.name, nic, first, f"MTU {interface.mtu}", attached + off))
        rows += [("", "", address, "", "") for address in more]
    return [f"  {host.name}{cpu}{offload}", *_columns(rows, 4), *_routes(host)]


def _router(router: Router, topology: Topology) -> list[str]:
    rows = []
    for interface in router.interfaces:
        end = InterfaceEnd(router.name, interface.name)
        first, *more = [str(address) for address in interface.addresses] or [""]
        rows.append((interface.name, first, f"MTU {interface.mtu}", _attached(topology, end)))
        rows += [("", address, "", "") for address in more]
    shared = "addresses and ports" if router.ecmp == "ports" else "addresses"
    lines = [f"  {router.name}: equal ways shared by {shared}", *_columns(rows, 4)]
    return lines + _routes(router)


def _routes(node: Host | Router) -> list[str]:
    return [
        f"    route to {route.destination} by {' and '.join(route.via)}"
        if route.via
        else f"    {route.destination} is unreachable"
        for route in node.routes
    ]


def _attached(topology: Topology, end: InterfaceEnd) -> str:
    link = topology.link_at(end)
    if link is not None:
        return link.name
    return next(
        (f"on {switch.name}" for switch in topology.switches if end in switch.ports), "unconnected"
    )


def _switches(topology: Topology) -> Iterator[str]:
    joined = {switch.name: [str(port) for port in switch.ports] for switch in topology.switches}
    for link in topology.links:
        for end in (link.a, link.b):
            if isinstance(end, SwitchEnd):
                joined[end.switch].append(link.name)
    return (f"{name}: {', '.join(ends)}" for name, ends in joined.items())


def _link(link: Link) -> list[tuple[str, ...]]:
    remarks = [link.environment.upper()] if link.environment else []
    if link.driver != "auto":
        remarks.append(f"driver {link.driver}")
    if not link.up:
        remarks.append("down at first")
    if link.forward == link.backward:
        shown = _channel(link.forward, link.rtt_ns)
        return [(link.name, str(link.a), str(link.b), *shown, ", ".join(remarks))]
    there, back = _channel(link.forward, link.rtt_ns), _channel(link.backward, link.rtt_ns)
    return [
        (link.name, str(link.a), str(link.b), *there, ", ".join(remarks)),
        ("", str(link.b), str(link.a), *back, ""),
    ]


def _boxes(topology: Topology) -> Iterator[tuple[str, ...]]:
    """Yield a row for each middlebox: its name, where it stands, what it does."""
    for link in topology.links:
        for end, boxes in ((link.a, link.near_boxes), (link.b, link.far_boxes)):
            for box in boxes:
                yield box.target, f"on {link.name} at {end}", box_text(box)


def box_text(box: MiddleboxPlan) -> str:
    """Return what a middlebox does: "strip MP_JOIN, forward"."""
    parts = [" ".join((box.kind, *([", ".join(box.options)] if box.options else [])))]
    if box.segments:
        parts.append(f"of {', '.join(box.segments)}")
    if box.outside is not None:
        parts[0] += f" to {box.outside}"
    if box.size_bytes:
        parts.append(f"{format_size(box.size_bytes)} at most")
    if box.kind == "merge":
        parts.append(f"waits {format_duration(box.hold_ns)}")
    if box.blind:
        parts.append("blind")
    if box.direction != "both":
        parts.append(box.direction)
    if box.after_bytes:
        parts.append(f"after {format_size(box.after_bytes)} of a flow")
    if box.times is not None:
        parts.append(f"{box.times} packets at most")
    if not box.enabled:
        parts.append("off at first")
    return ", ".join(parts)


def _channel(channel: Channel, rtt_ns: int) -> tuple[str, str, str, str]:
    rate = "unlimited" if channel.rate_bps is None else format_rate(channel.rate_bps)
    if channel.trace is not None:
        rate += f" (mean of {channel.trace})"
    delay = format_duration(channel.delay_ns) if channel.delay_ns else "none"
    if channel.jitter_ns:
        delay += f" ± {format_duration(channel.jitter_ns)}"
        if channel.jitter_distribution is not JitterDistribution.UNIFORM:
            delay += f" ({channel.jitter_distribution})"
        if channel.jitter_reorders:
            delay += ", out of order"
    lost = channel.loss if channel.burst_loss is None else channel.burst_loss.mean_loss
    for what, share in (
        ("loss" if channel.burst_loss is None else "loss in bursts", lost),
        ("reordering", channel.reorder),
        ("duplicates", channel.duplicate),
        ("corruption", channel.corrupt),
    ):
        if share:
            delay += f", {what} {share * 100:.4g} %"
    limits = []
    if channel.queue.limit_packets is not None:
        limits.append(f"{channel.queue.limit_packets} packets")
    if channel.queue.limit_bytes is not None:
        limit = format_size(channel.queue.limit_bytes)
        if channel.rate_bps:
            filled_ns = channel.queue.limit_bytes * 8 * 10**9 // channel.rate_bps
            limit += f" ({format_duration(filled_ns)})"
        limits.append(limit)
    if limits and channel.queue.discipline != "drop-tail":
        limits[-1] += f", {_discipline(channel.queue)}"
    bdp = format_size(bdp_bytes(channel.rate_bps, rtt_ns)) if channel.rate_bps and rtt_ns else "-"
    return rate, delay, " or ".join(limits) or "unlimited", bdp


def _discipline(queue: Queue) -> str:
    """Return what a queue does before it is full, with what differs from its usual settings."""
    text = f"{queue.discipline}{' with ECN' if queue.ecn else ''}"
    if queue.target_ns is not None:
        text += f", target {format_duration(queue.target_ns)}"
    if queue.interval_ns is not None:
        text += f", interval {format_duration(queue.interval_ns)}"
    if queue.quantum_bytes is not None:
        text += f", quantum {format_size(queue.quantum_bytes)}"
    return text


def _tunables(scenario: Scenario) -> list[str]:
    shown = {host: _tunables_of(tunables) for host, tunables in scenario.tunables.items()}
    if len(set(shown.values())) == 1:
        return wrap(
            next(iter(shown.values())), text_width(), initial_indent="  ", subsequent_indent="  "
        )
    lines = []
    for host, text in shown.items():
        lines += wrap(
            f"{host}: {text}", text_width(), initial_indent="  ", subsequent_indent="    "
        )
    return lines


def _tunables_of(tunables: Tunables) -> str:
    if not tunables.enabled:
        return "MPTCP off"
    parts = [] if tunables.version == 1 else [f"MPTCP version {tunables.version}"]
    parts += [
        f"MSS {tunables.mss or 'from the MTU'}",
        f"checksum {'on' if tunables.checksum else 'off'}",
        f"ndiffports {tunables.ndiffports}",
        f"path manager {tunables.path_manager}",
        f"scheduler {tunables.scheduler}",
    ]
    if tunables.receive_buffer_max_bytes:
        parts.append(f"receive buffer up to {format_size(tunables.receive_buffer_max_bytes)}")
    if tunables.send_buffer_max_bytes:
        parts.append(f"send buffer up to {format_size(tunables.send_buffer_max_bytes)}")
    for name in (
        "rto_max_ms",
        "retries2",
        "stale_loss_cnt",
        "close_timeout_s",
        "add_addr_timeout_s",
    ):
        value = getattr(tunables, name)
        if value is not None:
            parts.append(f"{name} {value}")
    parts += [f"{name} = {value}" for name, value in tunables.sysctls]
    return ", ".join(parts)


def _endpoints(scenario: Scenario) -> list[str]:
    lines = []
    for host, own in scenario.endpoints.items():
        lines.append(
            f"  {host}: {own.subflows} subflows beside the initial one, {own.add_addr_accepted} "
            "announced addresses at most"
        )
        rows = [
            (
                each.interface,
                str(each.address),
                " ".join(each.flags) or "priority alone",
                f"port {each.port}" if each.port else "",
                "" if each.present else "not at first",
            )
            for each in own.endpoints
        ]
        lines += _columns(rows, 4)
    return lines


def _flows(scenario: Scenario) -> list[str]:
    lines = []
    for flow in scenario.flows:
        lines += wrap(
            _flow(flow, scenario), text_width(), initial_indent="  ", subsequent_indent="    "
        )
        subflows = scenario.expected_subflows(flow)
        if flow.is_striped:
            subflows = scenario.paths(flow)
        what = "subflow" if flow.protocol == "mptcp" and len(subflows) > 1 else "path"
        rows = [
            (
                f"{what} {number}",
                f"{path.local_address.ip} > {path.remote_address.ip}",
                f"over {_way(path)}{', backup' if _is_backup(path, flow, scenario) else ''}"
                f"{', while others fail' if _is_standby(number, flow) else ''}",
            )
            for number, path in enumerate(subflows, start=1)
        ]
        lines += _columns(rows, 4)
    return lines


def _is_backup(path: Path, flow: Flow, scenario: Scenario) -> bool:
    return flow.protocol == "mptcp" and scenario.is_backup(path)


def _is_standby(number: int, flow: Flow) -> bool:
    """Return whether SCTP uses a path, counted from 1, only while those before it fail."""
    return flow.protocol == "sctp" and not flow.cmt and number > 1


def _way(path: Path) -> str:
    """Return the links of a path, and how it returns where that is another way."""
    if path.by_ports:
        return f"a way of {len(path.links)} links by its ports, among {len(path.candidates)} links"
    way = " + ".join(path.links) or "a switch alone"
    return f"{way}, back over {' + '.join(path.back)}" if path.back else way


def _flow(flow: Flow, scenario: Scenario) -> str:
    end_ns = scenario.duration_ns if flow.stop_ns is None else flow.stop_ns
    parts = [flow.protocol, flow.application]
    if flow.protocol == "sctp":
        parts.insert(1, "on all paths at once" if flow.cmt else "on one path at a time")
    if flow.protocol in ("mptcp", "tcp", "sctp"):
        parts.append(flow.congestion)
    parts = [part for part in dict.fromkeys(parts) if part]
    if flow.connections > 1:
        parts.append(f"{flow.connections} connections")
    parts.append(f"{_moment(flow.start_ns)} to {_moment(end_ns)}")
    if flow.size_bytes:
        parts.append(f"{format_size(flow.size_bytes)} at most")
    if flow.workload is not None:
        parts.append(workload_text(flow.workload))
    if flow.protocol in ("mptcp", "tcp", "sctp"):
        parts.append(_buffers(flow))
    parts += [f"{name} {value}" for name, value in flow.sctp]
    if flow.workload is None:
        parts.append(f"writes of {format_size(flow.write_bytes)}")
    for verb, rate_bps in (("writes", flow.write_rate_bps), ("reads", flow.read_rate_bps)):
        if rate_bps is not None:
            parts.append(f"{verb} {format_rate(rate_bps)}")
    if flow.client != flow.source:
        parts.append(f"opened by {flow.client}")
    return f"{flow.name}: {flow.source} > {flow.destination}, {', '.join(parts)}"


def _buffers(flow: Flow) -> str:
    sizes = (flow.send_buffer_bytes, flow.receive_buffer_bytes)
    if sizes == (None, None):
        return "buffers autotuned"
    if sizes[0] == sizes[1]:
        return f"buffers of {format_size(sizes[0] or 0)}"
    shown = [format_size(size) if size else "autotuned" for size in sizes]
    return f"send buffer {shown[0]}, receive buffer {shown[1]}"


def _moment(time_ns: int) -> str:
    return f"{time_ns / 1e9:g} s"


def _timeline(scenario: Scenario) -> list[str]:
    rows = []
    times = Counter((each.verb, each.target, each.changes) for each in scenario.timeline)
    shown = set()
    for action in scenario.timeline:
        which = (action.verb, action.target, action.changes)
        if action.repeated and which in shown:
            continue
        shown.add(which)
        what = f"{_VERBS.get(action.verb, action.verb)} {action.target}"
        if action.changes:
            what += f" to {changes_text(action.changes)}"
        if action.direction != "both":
            what += f", {action.direction}"
        if action.repeated and times[which] > 1:
            what += f", {times[which]} times"
        named = action.label != own_label(action.verb, action.target, action.changes)
        rows.append((_moment(action.at_ns), what, action.label if named else ""))
    return _columns(rows)


def stage_links(scenario: Scenario) -> Iterator[tuple[tuple[int, int], tuple[str, ...]]]:
    """Yield each stage's (start_ns, end_ns) and the links that are up in it."""
    states = LinkStates(scenario.topology, scenario.timeline)
    for start_ns, end_ns in scenario.stages():
        up = states.up(start_ns)
        yield (
            (start_ns, end_ns),
            tuple(link.name for link in scenario.topology.links if link.name in up),
        )


def _stages(scenario: Scenario) -> list[str]:
    rows = []
    for number, ((start_ns, end_ns), links) in enumerate(stage_links(scenario)):
        rows.append(
            (
                str(number),
                f"{_moment(start_ns)} to {_moment(end_ns)}",
                f"up: {', '.join(links) or 'none'}",
                _expected(scenario.expectations, number),
                _measured(scenario.report.measured, number),
            )
        )
    lines = _columns(rows)
    expected = _expected(scenario.expectations, None)
    measured = _measured(scenario.report.measured, None)
    for whole in filter(None, (expected, measured)):
        lines += wrap(
            f"whole run, {whole}", text_width(), initial_indent="  ", subsequent_indent="    "
        )
    for finding in scenario.report.findings:
        when = "" if finding.stage is None else f"stage {finding.stage}: "
        text = f"2012, {when}{finding.text} ({finding.source})"
        lines += wrap(text, text_width(), initial_indent="  ", subsequent_indent="    ")
    return lines


def _expected(expectations: Iterable[Expectation], stage: int | None) -> str:
    parts = []
    for expectation in expectations:
        if expectation.stage == stage:
            of = "" if expectation.of == "total" else f"{expectation.of} "
            rate = format_rate(expectation.value_bps)
            limit = (
                f"at least {rate}"
                if expectation.at_least
                else f"{rate} ± {expectation.tolerance * 100:.3g} %"
            )
            parts.append(of + limit)
    return f"expected: {', '.join(parts)}" if parts else ""


def _measured(measured: Iterable[Measured], stage: int | None) -> str:
    by_kind: dict[str, list[str]] = {}
    for value in measured:
        if value.stage == stage:
            of = "" if value.of == "total" else f"{value.of} "
            by_kind.setdefault(value.kind, []).append(of + format_rate(value.value_bps))
    return "; ".join(f"{_KINDS[kind]}: {', '.join(parts)}" for kind, parts in by_kind.items())


def _sweep(scenario: Scenario) -> list[str]:
    lines = []
    for point in scenario.sweep.points:
        parts = ["; ".join(point.overrides) or "as it is"]
        parts += filter(None, [_measured(point.measured, None)])
        lines += wrap(
            f"{point.label}: {'; '.join(parts)}",
            text_width(),
            initial_indent="  ",
            subsequent_indent="    ",
        )
    lines += [f"  {key}: {', '.join(texts)}" for key, texts in scenario.sweep.over]
    lines += [f"  {key}: {', '.join(texts)} (together)" for key, texts in scenario.sweep.zipped]
    return lines


def notes(scenario: Scenario) -> Iterator[str]:
    """Yield what to know before a run: buffers that are short, what a testbed ignores."""
    for need in buffer_needs(scenario):
        wanted = (
            f"the report's equation {need.equation} asks for {format_size(need.equation_bytes)} "
            f"({format_rate(need.rate_bps)} at {format_duration(need.rtt_ns)})"
        )
        given = f"{'autotuned up to' if need.autotuned else 'of'} {format_size(need.given_bytes)}"
        if need.bounds:
            yield (
                f"{need.flow}: buffers {given} are short: {wanted}. "
                "The buffer, not the links, will bound the goodput."
            )
        elif need.short:
            yield (
                f"{need.flow}: buffers {given} suffice while queues are empty: {wanted}, and "
                f"{format_size(need.needed_bytes)} with full ones."
            )
        else:
            yield f"{need.flow}: buffers {given} suffice; {wanted}."
    for flow in scenario.flows:
        yield from _plain(scenario, flow)
        yield from _through_boxes(scenario, flow)
    cpus = sorted({host.cpu for host in scenario.topology.hosts} - {"none"})
    if cpus:
        yield f'cpu = "{", ".join(cpus)}" counts in simulation; the Linux testbed ignores it.'
    if any(tunables.scheduler == "2012" for tunables in scenario.tunables.values()):
        yield 'scheduler = "2012" counts in simulation; the Linux testbed has its kernel\'s.'
    yield from _of_applications(scenario)
    yield from _in_simulation_only(scenario)


def _through_boxes(scenario: Scenario, flow: Flow) -> Iterator[str]:
    """Yield what middleboxes may do to a flow."""
    if boxes := interfering(scenario, scenario.paths(flow)):
        yield (
            f"{flow.name} passes {', '.join(boxes)}: subflows, MPTCP or bytes may not come "
            "through, and the run counts as valid all the same."
        )
    closed = {
        box.target: None
        for path in scenario.paths(flow)
        for box in closed_to(scenario, path)
        if box.enabled
    }
    for target in closed:
        yield (
            f"{flow.name}: {target} lets no connection in that begins outside, as that of "
            f"{flow.client} does."
        )


def _of_applications(scenario: Scenario) -> Iterator[str]:
    """Yield what testbeds cannot do for applications."""
    for flow in scenario.flows:
        ends = [scenario.topology.host(name) for name in (flow.source, flow.destination)]
        if isinstance(flow.workload, Command):
            yield f"{flow.name}: a command runs on the Linux testbed only."
        elif isinstance(flow.workload, GridFtp):
            yield f"{flow.name}: GridFTP runs on the Linux testbed only."
        elif flow.workload is not None:
            if any(host.stack == "ours" for host in ends):
                yield (
                    f'{flow.name}: application = "{flow.application}" runs in simulation, or '
                    'between hosts with stack = "kernel".'
                )
            if any(host.cpu != "none" for host in ends):
                yield f"{flow.name}: cpu counts its packets, not what its application copies."


def _in_simulation_only(scenario: Scenario) -> Iterator[str]:
    ours = {host.name for host in scenario.topology.hosts if host.stack == "ours"}
    simulated = [
        f'flows.{flow.name}.congestion = "{flow.congestion}"'
        for flow in scenario.flows
        if flow.source not in ours
        and (flow.congestion in SIMULATED_CONGESTION or ":" in flow.congestion)
    ]
    by_bpf = [
        f"{flow.congestion} of {flow.name}"
        for flow in scenario.flows
        if flow.source not in ours
        and (flow.congestion in KERNEL_COUPLED or is_bpf_object(flow.congestion))
    ]
    if by_bpf:
        yield (
            f"{', '.join(by_bpf)}: the Linux testbed loads it by BPF, as root, from Linux 6.4 on "
            "(`mptcplab doctor` says whether it can here)."
        )
    for host, tunables in scenario.tunables.items():
        if tunables.scheduler not in KERNEL_SCHEDULERS and host not in ours:
            simulated.append(f'scheduler = "{tunables.scheduler}" of {host}')
        if ":" in tunables.path_manager:
            if host not in ours:
                simulated.append(f'path_manager = "{tunables.path_manager}" of {host}')
            yield f"{host}: its path manager decides which subflows there are beyond the first."
    for text in beyond_kernels(scenario):
        yield f"in simulation only, since the Linux testbed refuses it: {text}."
    if simulated:
        yield (
            'in simulation, or on hosts with stack = "ours", only, since upstream kernels have '
            f"none of it: {', '.join(simulated)}."
        )


def _plain(scenario: Scenario, flow: Flow) -> Iterator[str]:
    """Yield why a flow that asks for MPTCP will be plain TCP."""
    ends = (flow.source, flow.destination)
    off = [host for host in ends if not scenario.tunables[host].enabled]
    if flow.protocol == "mptcp" and off:
        yield f"{flow.name} will be plain TCP: MPTCP is off on {' and '.join(off)}."
    elif flow.protocol == "mptcp" and len({scenario.tunables[host].version for host in ends}) > 1:
        yield (
            f"{flow.name} will be plain TCP: {flow.source} and {flow.destination} have different "
            "versions of MPTCP."
        )

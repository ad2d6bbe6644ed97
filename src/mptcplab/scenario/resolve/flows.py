"""From parsed tables to flows: find hosts and links, fill in defaults, note errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from mptcplab.network.topology import Topology
from mptcplab.scenario.errors import Path, Problems, nearest
from mptcplab.scenario.model import Flow
from mptcplab.scenario.resolve.amounts import check_pairs
from mptcplab.scenario.resolve.workloads import build_workload
from mptcplab.scenario.schema.keys import COUPLED, SCTP_CONGESTION
from mptcplab.units import format_duration

Values = dict[str, Any]


def build_flows(
    tables: Values, topology: Topology, duration_ns: int, folder: FilePath, problems: Problems
) -> tuple[Flow, ...]:
    """Return the flows; ``links`` filled in where the file leaves it out.

    Files that flows name are in ``folder``.
    """
    links = {link.name for link in topology.links}
    for name in tables:
        if name == "total" or name in links:
            other = "the sum of all flows" if name == "total" else "a link too"
            problems.add(("flows", name), f"is the name of {other}", "a name of its own")
    check_pairs(tables, topology, problems)
    flows = []
    for name, values in tables.items():
        flow = _flow(name, values, topology, duration_ns, problems)
        if flow is not None:
            mtu = min((topology.link(link).mtu for link in flow.links), default=1500)
            keys = {**values, "mtu": mtu}
            workload = build_workload(("flows", name), keys, duration_ns, folder, problems)
            flows.append(replace(flow, workload=workload))
    return tuple(flows)


def _flow(
    name: str, values: Values, topology: Topology, duration_ns: int, problems: Problems
) -> Flow | None:
    path = ("flows", name)
    for key in ("from", "to"):
        if not topology.has_host(values[key]):
            hosts = [host.name for host in topology.hosts]
            problems.add(
                (*path, key),
                f'there is no host "{values[key]}" among those built',
                f"one of {', '.join(hosts)}",
                nearest(values[key], hosts),
            )
            return None
    if values["from"] == values["to"]:
        problems.add((*path, "to"), f'"{values["to"]}" is the sender', "another host")
        return None
    client = values["client"] or values["from"]
    if client not in (values["from"], values["to"]):
        problems.add(
            (*path, "client"),
            f'"{client}" is not an end of the flow',
            f'"{values["from"]}" or "{values["to"]}"',
        )
        return None
    if values["application"] == "gridftp":  # whoever sends opens data connections (GFD.20, MODE E)
        client = values["from"]
    _check_times(path, values, duration_ns, problems)
    protocol, verify = _application(path, values, problems)
    flow = Flow(
        name=name,
        source=values["from"],
        destination=values["to"],
        protocol=protocol,
        application=values["application"],
        connections=values["connections"],
        start_ns=values["start"],
        stop_ns=values["stop"],
        size_bytes=values["size"],
        send_buffer_bytes=values["send_buffer"] or values["buffer"],
        receive_buffer_bytes=values["receive_buffer"] or values["buffer"],
        write_bytes=values["write_size"],
        congestion=values["congestion"] or ("reno" if protocol == "sctp" else "cubic"),
        client=client,
        family={None: None, "ipv4": 4, "ipv6": 6}[values["family"]],
        verify=verify,
        write_rate_bps=_application_rate(path, values, "write_rate", problems),
        read_rate_bps=_application_rate(path, values, "read_rate", problems),
        cmt=bool(values["cmt"]),
        sctp=tuple(sorted((values["sctp"] or {}).items())),
    )
    if protocol == "sctp":
        flow = replace(flow, family=4)
        _check_sctp(path, values, problems)
    else:
        _check_not_sctp(path, values, problems)
    return replace(flow, links=_links(path, flow, values["links"], topology, problems))


def _application_rate(path: Path, values: Values, key: str, problems: Problems) -> int | None:
    """Return one of the rates of the applications, checked: they can keep it."""
    rate_bps: int | None = values[key]
    if rate_bps is None:
        return None
    if values["application"] == "striped":
        problems.add(
            (*path, key),
            'is not for application = "striped", whose connections share one file',
            'application = "bulk"',
        )
    elif values["application"] == "iperf3" and key == "read_rate":
        problems.add((*path, key), "iperf3 reads as fast as data arrive", 'application = "bulk"')
    return rate_bps


def _check_times(path: Path, values: Values, duration_ns: int, problems: Problems) -> None:
    if values["start"] >= duration_ns:
        problems.add(
            (*path, "start"),
            f"{format_duration(values['start'])} is not before the end",
            f"less than the duration of {format_duration(duration_ns)}",
        )
    stop = values["stop"]
    if stop is not None and stop > duration_ns:
        problems.add(
            (*path, "stop"),
            f"{format_duration(stop)} is after the end",
            f"at most the duration of {format_duration(duration_ns)}",
        )
    if stop is not None and stop <= values["start"]:
        problems.add(
            (*path, "stop"),
            f"{format_duration(stop)} is not after its start",
            f"more than {format_duration(values['start'])}",
        )


def _application(path: Path, values: Values, problems: Problems) -> tuple[str, bool]:
    """Return protocol and verify, given or implied by the application."""
    application = values["application"]
    implied = {"striped": "tcp", "udp": "udp", "command": ""}
    if application == "gridftp" and values["striped"]:
        implied["gridftp"] = "tcp"
    protocol = values["protocol"] or implied.get(application, "mptcp")
    if implied.get(application) == "tcp" and protocol != "tcp":
        problems.add(
            (*path, "protocol"),
            '"mptcp" under application = "striped"'
            if application == "striped"
            else '"mptcp" together with striped = true',
            '"tcp": striping is over parallel TCP connections',
        )
    if protocol == "tcp" and values["congestion"] in COUPLED:
        problems.add(
            (*path, "congestion"),
            f'"{values["congestion"]}" couples the subflows of MPTCP',
            'a congestion control of single connections, such as "cubic", for tcp',
        )
    verify = values["verify"]
    if verify and application == "iperf3":
        problems.add(
            (*path, "verify"),
            "iperf3 does not check the bytes that arrive",
            'verify = false, or application = "bulk"',
        )
    return protocol, application not in ("iperf3", "command") if verify is None else verify


def _check_sctp(path: Path, values: Values, problems: Problems) -> None:
    """Note what a flow over SCTP cannot have: what libusrsctp lacks, or its worker."""
    if values["application"] != "bulk":
        problems.add(
            (*path, "application"),
            f'"{values["application"]}" does not run over SCTP',
            '"bulk", or another protocol',
        )
    if values["family"] == "ipv6":
        problems.add(
            (*path, "family"),
            '"ipv6" under protocol = "sctp", which runs over IPv4 here',
            '"ipv4", or a flow without the key',
        )
    congestion = values["congestion"]
    if congestion is not None and congestion not in SCTP_CONGESTION:
        problems.add(
            (*path, "congestion"),
            f'"{congestion}" is not one of SCTP\'s',
            f"one of {', '.join(SCTP_CONGESTION)} for sctp",
        )
    elif congestion in COUPLED and not values["cmt"]:
        problems.add(
            (*path, "congestion"),
            f'"{congestion}" couples paths that are used at once',
            "cmt = true beside it",
        )


def _check_not_sctp(path: Path, values: Values, problems: Problems) -> None:
    """Note keys of SCTP in a flow over something else."""
    for key in ("cmt", "sctp"):
        if values[key]:
            problems.add((*path, key), "is for SCTP", 'protocol = "sctp"')


def _links(
    path: Path,
    flow: Flow,
    named: tuple[str, ...] | None,
    topology: Topology,
    problems: Problems,
) -> tuple[str, ...]:
    """Return the links of a flow, checked: each exists and lies on a path made of them."""
    server = flow.destination if flow.client == flow.source else flow.source
    paths = topology.paths(flow.client, server, multipath=flow.protocol in ("mptcp", "sctp"))
    here = (*path, "links")
    for name in named or ():
        if not topology.has_link(name):
            built = [link.name for link in topology.links]
            problems.add(
                here,
                f'there is no link "{name}" among those built',
                f"one of {', '.join(built)}",
                nearest(name, built),
            )
            return ()
    if not paths:
        circle = topology.circle(flow.client, server)
        joins = (
            f"nothing that carries {flow.protocol or 'packets'} joins {flow.source} and "
            f"{flow.destination}"
        )
        if circle:
            joins += f": explicit routes lead in a circle, {' > '.join(circle)}"
        problems.add(
            path if named is None else here,
            joins,
            "a link between interfaces of both, or through a switch, in one subnet, or routers "
            "that lead there and back",
        )
        return ()
    chosen = None if named is None else set(named)
    allowed = [each for each in paths if chosen is None or chosen.issuperset(each.possible)]
    if flow.family and not any(each.local_address.version == flow.family for each in allowed):
        problems.add(
            (*path, "family"),
            f"no path of the flow has IPv{flow.family} addresses",
            f'families = ["ipv{flow.family}"] in the scenario',
        )
    paths = tuple(each for each in paths if each.links)
    if not paths:
        problems.add(
            path,
            f"only a switch joins {flow.source} and {flow.destination}, where nothing is shaped or "
            "measured",
            "a link from a host to the switch in place of a port",
        )
        return ()
    allowed = [each for each in allowed if each.links]
    on_paths = {link for each in paths for link in each.possible}
    if named is None:
        return topology.in_order(on_paths)
    carrying = {link for each in allowed for link in each.possible}
    for name in named:
        if name not in carrying:
            whole = sorted({" + ".join(each.possible) for each in paths})
            problems.add(
                here,
                f"{name} joins no interfaces of {flow.source} and {flow.destination}",
                f"links of these paths: {', '.join(whole)}",
            )
    return named

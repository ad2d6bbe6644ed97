"""What is changed on real hosts before a run, worked out and shown before any of it is done.

As appendix C of the 2012 report did it, a table of routes for each address, and the endpoints and
limits of the path manager; but nothing of what an interface is that the SSH connection or the
host's default route uses, and of others no address, rate or queue.  Steps are ``ip`` commands with
what undoes them, and sysctls with what they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from itertools import count
from typing import Any, Final

from mptcplab.applications.workloads import Command as CommandWorkload
from mptcplab.linux.kernel.mptcp_endpoints import ENDPOINTS_MAX, Address, Endpoint, Flags
from mptcplab.linux.lab.endpoint_plan import HostPlan, kernel_endpoint
from mptcplab.linux.lab.forwarding import gateways
from mptcplab.linux.traffic.command import arguments
from mptcplab.linux.traffic.iperf3 import MPTCPIZE, PROGRAM
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.network.topology import Channel, Host, Interface, InterfaceEnd
from mptcplab.remote import netem
from mptcplab.scenario.model import KERNEL_SCHEDULERS, Flow, Scenario, Tunables

Command = list[str]
Facts = Mapping[str, Any]
"""What an agent tells of its host, by :data:`mptcplab.remote.answers.FACTS`."""

_FIRST_TABLE: Final = 7101
_FIRST_PRIORITY: Final = 7101  # rules before that of the main table, 32766
_FIRST_ENDPOINT: Final = 101
_BUFFER_LEAST: Final = 4096
_INITIAL_BYTES: Final = {"tcp_rmem": 131072, "tcp_wmem": 16384}  # net/ipv4/tcp.c, tcp_init


@dataclass(frozen=True, slots=True)
class Step:
    """One change: a command and what undoes it, or an interface to set down or up."""

    command: Command
    undo: tuple[Command, ...] = ()
    interface: str = ""
    """Of the last word of ``command``, "down" or "up"."""

    def message(self) -> dict[str, Any]:
        """Return the step as an agent takes it."""
        if self.interface:
            return {self.command[-1]: self.interface}
        return {"command": self.command, "undo": [list(each) for each in self.undo]}

    def __str__(self) -> str:
        if self.command[0] == "write":
            name = self.command[1].removeprefix("/proc/sys/").replace("/", ".")
            return f"sysctl -w {name}='{self.command[2]}'"
        return " ".join(self.command)


@dataclass
class HostSetUp:
    """One host: what is done to it, what stands in the way, and what its names stand for."""

    host: str
    steps: list[Step] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interfaces: dict[str, str] = field(default_factory=dict)
    """The real interface of each of the scenario's that a flow may use."""
    protected: set[str] = field(default_factory=set)
    """The real interfaces that are never touched."""
    identifiers: dict[tuple[Address, int], int] = field(default_factory=dict)
    """The kernel's number of each endpoint, by address and port."""
    wanted: list[Endpoint] = field(default_factory=list)
    """The endpoints of the start, without numbers."""
    devices: dict[str, str] = field(default_factory=dict)
    """The real interface of each address whose subflows no rule leads there."""
    programs: list[str] = field(default_factory=list)
    """The programs that run there for flows, as the scenario has them."""

    def endpoint_step(self, endpoint: Endpoint, *, add: bool) -> Step:
        """Return the step that adds an endpoint, or deletes it."""
        number = str(self.identifiers[endpoint.address, endpoint.port])
        adding = _adding(endpoint, number, self.devices.get(str(endpoint.address), ""))
        deleting: Command = ["ip", "mptcp", "endpoint", "delete", "id", number]
        return Step(adding, (deleting,)) if add else Step(deleting)

    def netem_step(self, interface: str, channel: Channel, *, change: bool = False) -> Step:
        """Return the step that puts netem on an interface of the scenario, or changes it there."""
        here = ["dev", self.interfaces[interface], "root", "handle", netem.HANDLE]
        verb = "change" if change else "add"
        undo = () if change else (["tc", "qdisc", "del", *here],)
        return Step(["tc", "qdisc", verb, *here, *netem.arguments(channel)], undo)

    def priority_step(self, endpoint: Endpoint, backup: bool) -> Step:
        """Return the step that makes an endpoint a backup or a regular one."""
        number = str(self.identifiers[endpoint.address, endpoint.port])
        flag = "backup" if backup else "nobackup"
        return Step(["ip", "mptcp", "endpoint", "change", "id", number, flag])


def needed_sysctls(scenario: Scenario, host: Host, facts: Facts | None = None) -> list[str]:
    """Return the sysctls whose values a plan needs to know, as paths below /proc/sys.

    Without facts, those that follow from the scenario alone.
    """
    names = [name for name, _ in _global_sysctls(scenario, host)]
    if facts is not None:
        result = HostSetUp(host.name)
        _find_interfaces(scenario, host, facts, result)
        for real in dict.fromkeys(result.interfaces.values()):
            names += _interface_sysctls(real, has_ipv6=True)
    if _iperf3_flows(scenario, host):
        names += _LARGEST_BUFFERS
    return [*names, "net/mptcp/enabled", "net/mptcp/available_schedulers"]


_LARGEST_BUFFERS: Final = ("net/core/wmem_max", "net/core/rmem_max")
"""The largest buffers that programs can ask for (tcp(7))."""


def needed_programs(scenario: Scenario, host: Host) -> list[str]:
    """Return the programs that a host may need; which of them it has is among its facts."""
    names = [program for _, program in _commands(scenario, host)]
    if _iperf3_flows(scenario, host):
        names += [PROGRAM, MPTCPIZE]
    if any(end.host == host.name for end in scenario.captures):
        names.append("tcpdump")
    return list(dict.fromkeys(names))


def _iperf3_flows(scenario: Scenario, host: Host) -> list[Flow]:
    return [flow for flow in _flows_of(scenario, host) if flow.application == PROGRAM]


def _commands(scenario: Scenario, host: Host) -> Iterator[tuple[str, str]]:
    """Yield what flows run on a host: the command line as the scenario has it, and its program."""
    for flow in scenario.flows:
        if isinstance(flow.workload, CommandWorkload):
            for end, text in (
                (flow.source, flow.workload.command),
                (flow.destination, flow.workload.server_command),
            ):
                if end == host.name and text:
                    yield text, arguments(text, "", 0)[0]


def _interface_sysctls(interface: str, *, has_ipv6: bool) -> dict[str, str]:
    """Return what makes an interface answer for its own addresses alone, and keep them."""
    values = {
        f"net/ipv4/conf/{interface}/arp_ignore": "1",
        f"net/ipv4/conf/{interface}/arp_announce": "2",
    }
    if has_ipv6:
        values[f"net/ipv6/conf/{interface}/keep_addr_on_down"] = "1"
    return values


def set_up(scenario: Scenario, host: Host, plan: HostPlan, facts: Facts) -> HostSetUp:
    """Return what a host's part of a scenario takes."""
    result = HostSetUp(host.name)
    result.protected = {*facts["management"], *facts["defaults"]}
    _check(scenario, host, facts, result)
    _find_interfaces(scenario, host, facts, result)
    if result.problems:
        return result
    for name, value in _global_sysctls(scenario, host):
        _add_sysctl(name, value, facts, result)
    _add_routes(scenario, host, facts, result)
    _add_endpoints(scenario, host, plan, facts, result)
    _add_netem(scenario, host, facts, result)
    for link in scenario.topology.links:
        if not link.up:
            for end in (link.a, link.b):
                if isinstance(end, InterfaceEnd) and end.host == host.name:
                    result.steps += link_steps(result, end.interface, up=False)
    return result


def link_steps(host: HostSetUp, interface: str, *, up: bool) -> list[Step]:
    """Return the step that sets an interface of the scenario down or up."""
    real = host.interfaces.get(interface)
    if real is None:
        return []
    verb = "up" if up else "down"
    return [Step(["ip", "link", "set", "dev", real, verb], (), real)]


def _check(scenario: Scenario, host: Host, facts: Facts, result: HostSetUp) -> None:
    settings = scenario.tunables.get(host.name, Tunables())
    if not facts["root"]:
        result.problems.append("the agent is not root; expected root, or sudo without a password")
    if not facts["management"]:
        result.problems.append(
            "it is not known over which interface SSH came (SSH_CONNECTION), so none could be "
            "kept safe; expected OpenSSH's sshd"
        )
    mptcp = any(flow.protocol == "mptcp" for flow in _flows_of(scenario, host))
    if mptcp and settings.enabled and facts["limits"] is None:
        result.problems.append(
            "its kernel has no MPTCP (CONFIG_MPTCP); expected Linux 5.6 or later"
        )
    available = (facts["sysctls"].get("net/mptcp/available_schedulers") or "default").split()
    if settings.scheduler not in (*KERNEL_SCHEDULERS, *available):
        result.problems.append(
            f'tunables.scheduler: "{settings.scheduler}" is none of its kernel\'s; expected one of '
            + ", ".join(available)
        )
    used = {interface.name for interface in used_interfaces(scenario, host)}
    for end in scenario.captures:
        if end.host == host.name and end.interface not in used:
            result.problems.append(
                f"captures: {end} is on no path of a flow; expected one of {', '.join(used)}"
            )
    _check_programs(scenario, host, facts, result)
    captures = any(end.host == host.name for end in scenario.captures)
    if captures and "tcpdump" not in facts["programs"]:
        result.problems.append("captures need tcpdump, which is not installed there")


def _check_programs(scenario: Scenario, host: Host, facts: Facts, result: HostSetUp) -> None:
    """Note the programs that run there, and as who; it is a problem where one is not there."""
    for text, program in _commands(scenario, host):
        result.programs.append(f"{text} (as {facts['programs_user']})")
        if program not in facts["programs"]:
            result.problems.append(
                f"there is no program {program}; install it there, or name another in command"
            )
    for flow in _iperf3_flows(scenario, host):
        role = "client" if client_and_server(flow)[0] == host.name else "server"
        result.programs.append(f"iperf3, the {role} of {flow.name} (as {facts['programs_user']})")
        if PROGRAM not in facts["programs"]:
            result.problems.append(
                f"flows.{flow.name} needs iperf3, which is not installed there; apt-get install "
                'iperf3 (Debian), or use application = "bulk", which needs nothing there'
            )
        elif flow.protocol == "mptcp" and not (
            facts["iperf3_has_mptcp"] or MPTCPIZE in facts["programs"]
        ):
            result.problems.append(
                f"flows.{flow.name}: its iperf3 has no --mptcp (3.19 has), and mptcpize is not "
                "installed there; apt-get install mptcpize (Debian)"
            )
        asked = max(flow.send_buffer_bytes or 0, flow.receive_buffer_bytes or 0) // 2
        for name in _LARGEST_BUFFERS:
            most = facts["sysctls"].get(name) or ""
            if most.isdigit() and int(most) < asked:
                result.problems.append(
                    f"flows.{flow.name}: iperf3 would ask for buffers of {asked} bytes, and "
                    f"{name.replace('/', '.')} allows {most}; raise it there, or use a smaller "
                    'buffer or application = "bulk"'
                )


def _flows_of(scenario: Scenario, host: Host) -> Iterator[Flow]:
    return (flow for flow in scenario.flows if host.name in (flow.source, flow.destination))


def used_interfaces(scenario: Scenario, host: Host) -> list[Interface]:
    """Return the interfaces of a host that a flow may use, in its order."""
    used = {
        end.interface
        for flow in scenario.flows
        for path in scenario.paths(flow)
        for end in (path.local, path.remote)
        if end.host == host.name
    }
    return [interface for interface in host.interfaces if interface.name in used]


def _find_interfaces(scenario: Scenario, host: Host, facts: Facts, result: HostSetUp) -> None:
    """Find the real interface of each of the scenario's by its addresses."""
    owner = {
        str(ip_interface(text).ip): (device, ip_interface(text))
        for device in facts["interfaces"]
        for text in device["addresses"]
    }
    for interface in used_interfaces(scenario, host):
        for address in interface.addresses:
            if str(address.ip) not in owner:
                known = ", ".join(
                    f"{text} ({device['name']})"
                    for device in facts["interfaces"]
                    for text in device["addresses"]
                    if device["name"] != "lo"
                )
                result.problems.append(
                    f"no interface has {address}, the address of {interface.name}; there are "
                    f"{known or 'none'}; expected the host's own addresses in the scenario"
                )
                continue
            device, real = owner[str(address.ip)]
            result.interfaces[interface.name] = device["name"]
            if device["name"] in result.protected:
                result.devices[str(address.ip)] = device["name"]
            if not device["up"]:
                result.problems.append(
                    f"{device['name']}, which has {address.ip}, is down; set it up first"
                )
            if real.network != address.network:
                result.problems.append(
                    f"{device['name']} has {real}, and the scenario {address}; expected the same "
                    "prefix length"
                )
            if device["mtu"] != interface.mtu:
                result.notes.append(
                    f"{device['name']} has an MTU of {device['mtu']}, {interface.mtu} in the "
                    "scenario; it stays as it is"
                )
    downs = [
        (action.target, end)
        for action in scenario.timeline
        if action.verb in ("up", "down") and action.target_kind in ("link", "nic")
        for end in ends_of(scenario, action.target, action.target_kind)
        if end.host == host.name
    ]
    downs += [
        (link.name, end)
        for link in scenario.topology.links
        if not link.up
        for end in ends_of(scenario, link.name, "link")
        if end.host == host.name
    ]
    for target, end in dict.fromkeys(downs):
        real_name = result.interfaces.get(end.interface, "")
        if real_name in result.protected:
            result.problems.append(
                f"{target} is to be set down, which is {real_name}, the interface of "
                f"{_why_protected(real_name, facts)}; expected a timeline that leaves it up"
            )


def ends_of(scenario: Scenario, target: str, kind: str) -> list[InterfaceEnd]:
    """Return the interfaces at the ends of a link, or on a NIC."""
    topology = scenario.topology
    if kind == "link":
        link = topology.link(target)
        return [end for end in (link.a, link.b) if isinstance(end, InterfaceEnd)]
    host, _, nic = target.partition(":")
    return [
        InterfaceEnd(host, interface.name)
        for interface in topology.node(host).interfaces
        if interface.nic == nic
    ]


def _why_protected(interface: str, facts: Facts) -> str:
    return "the SSH connection" if interface in facts["management"] else "the default route"


def _global_sysctls(scenario: Scenario, host: Host) -> Iterator[tuple[str, str]]:
    """Yield the sysctls of a host's tunables, by path below /proc/sys."""
    settings = scenario.tunables.get(host.name, Tunables())
    scheduler = "default" if settings.scheduler in KERNEL_SCHEDULERS else settings.scheduler
    values: dict[str, object] = {
        "net/mptcp/enabled": int(settings.enabled),
        "net/mptcp/checksum_enabled": int(settings.checksum),
        "net/mptcp/scheduler": scheduler,
        # a link that the timeline cuts is no blackhole to remember (Linux 6.12)
        "net/mptcp/blackhole_timeout": 0,
        # what one flow learned of a path is not to shape the next one
        "net/ipv4/tcp_no_metrics_save": 1,
        "net/mptcp/stale_loss_cnt": settings.stale_loss_cnt,
        "net/mptcp/close_timeout": settings.close_timeout_s,
        "net/mptcp/add_addr_timeout": settings.add_addr_timeout_s,
        "net/ipv4/tcp_rto_max_ms": settings.rto_max_ms,
        "net/ipv4/tcp_retries2": settings.retries2,
        "net/ipv4/tcp_ecn": None if settings.ecn is None else int(settings.ecn),
    }
    for name, largest in (
        ("tcp_rmem", settings.receive_buffer_max_bytes),
        ("tcp_wmem", settings.send_buffer_max_bytes),
    ):
        if largest is not None:
            initial = min(_INITIAL_BYTES[name], largest)
            values[f"net/ipv4/{name}"] = f"{_BUFFER_LEAST} {initial} {largest}"
    values |= {name.replace(".", "/"): value for name, value in settings.sysctls}
    yield from ((name, str(value)) for name, value in values.items() if value is not None)


def _add_sysctl(name: str, value: str, facts: Facts, result: HostSetUp) -> None:
    before = facts["sysctls"].get(name)
    if before is None:
        if name not in _MAY_LACK:
            result.notes.append(f"its kernel has no {name.replace('/', '.')}, which stays unset")
        return
    if before != value:
        path = f"/proc/sys/{name}"
        result.steps.append(Step(["write", path, value], (["write", path, before],)))


_MAY_LACK: Final = (
    "net/mptcp/blackhole_timeout",
    "net/mptcp/scheduler",
    "net/mptcp/checksum_enabled",
)
"""Sysctls that later kernels have, and whose defaults there are what earlier ones do."""


def _add_routes(scenario: Scenario, host: Host, facts: Facts, result: HostSetUp) -> None:
    """Give each address a table, by which what it sends leaves by its own interface."""
    settings = scenario.tunables.get(host.name, Tunables())
    free_tables = (number for number in count(_FIRST_TABLE) if number not in facts["tables"])
    free = (number for number in count(_FIRST_PRIORITY) if number not in facts["priorities"])
    for interface in used_interfaces(scenario, host):
        real = result.interfaces[interface.name]
        if real in result.protected:
            why = _why_protected(real, facts)
            result.notes.append(
                f"{real} is the interface of {why}: its routes stay as they are"
                + (f", and so does its MSS ({settings.mss} asked for)" if settings.mss else "")
            )
            continue
        has_ipv6 = any(address.version == 6 for address in interface.addresses)
        for name, value in _interface_sysctls(real, has_ipv6=has_ipv6).items():
            _add_sysctl(name, value, facts, result)
        mss = [] if settings.mss is None else ["advmss", str(settings.mss)]
        ways = list(gateways(scenario.topology, host, interface))
        for address in interface.addresses:
            table, priority = str(next(free_tables)), str(next(free))
            family = f"-{address.version}"
            rule: Command = ["from", str(address.ip), "lookup", table, "priority", priority]
            flush: Command = ["ip", family, "route", "flush", "table", table]
            own: Command = [str(address.network), "dev", real, "src", str(address.ip)]
            add: Command = ["ip", family, "route", "add"]
            result.steps.append(Step([*add, *own, "table", table, *mss], (flush,)))
            for way in ways:
                if way.source == address:
                    there: Command = [str(way.network), "via", str(way.gateway.ip), "dev", real]
                    result.steps.append(Step([*add, *there, "table", table, *mss], (flush,)))
            result.steps.append(
                Step(
                    ["ip", family, "rule", "add", *rule], (["ip", family, "rule", "delete", *rule],)
                )
            )


def _add_endpoints(
    scenario: Scenario, host: Host, plan: HostPlan, facts: Facts, result: HostSetUp
) -> None:
    """Replace the endpoints and limits of the host by those of the scenario."""
    limits = facts["limits"]
    if limits is None:
        return
    for each in facts["endpoints"]:
        if "implicit" in each["flags"]:
            continue
        flags = Flags(0)
        for name in each["flags"]:
            flags |= getattr(Flags, name.upper(), Flags(0))
        was = Endpoint(ip_address(each["address"]), flags, port=each["port"])
        number = str(each["id"])
        back = _adding(was, number, each["dev"])
        result.steps.append(Step(["ip", "mptcp", "endpoint", "delete", "id", number], (back,)))
    result.wanted = list(plan.endpoints)
    later = scenario.endpoints.get(host.name)
    all_of_them = [*plan.endpoints, *(map(kernel_endpoint, later.endpoints) if later else ())]
    taken = {each["id"] for each in facts["endpoints"]}
    free = (number for number in count(_FIRST_ENDPOINT) if number not in taken)
    for endpoint in all_of_them:
        key = endpoint.address, endpoint.port
        if key not in result.identifiers:
            result.identifiers[key] = next(free)
    subflows = plan.subflows
    follows = scenario.tunables.get(host.name, Tunables()).path_manager == "link-aware"
    if follows and not plan.given and 0 < subflows < ENDPOINTS_MAX:
        subflows += 1  # for the subflow that takes the place of an initial one
    if plan.endpoints or plan.subflows or plan.given:
        new = _limits_command(subflows, plan.add_addr_accepted)
        old = _limits_command(limits["subflows"], limits["add_addr_accepted"])
        if new != old:
            result.steps.append(Step(new, (old,)))
    for endpoint in plan.endpoints:
        result.steps.append(result.endpoint_step(endpoint, add=True))


def _add_netem(scenario: Scenario, host: Host, facts: Facts, result: HostSetUp) -> None:
    """Put netem on the interfaces at which links that ask for it leave the host."""
    ends = netem.netem_ends(scenario, host.name)
    if not ends:
        return
    known = facts["netem"] or {"problem": "it tells nothing of netem", "qdiscs": {}}
    if known["problem"]:
        names = ", ".join(dict.fromkeys(f"links.{link.name}" for link, _, _ in ends))
        result.problems.append(f'{names}.driver: "netem": {known["problem"]}')
        return
    for link, direction, end in ends:
        real = result.interfaces.get(end.interface)
        if real is None:
            continue  # no flow uses it
        if real in result.protected:
            result.problems.append(
                f'links.{link.name}.driver: "netem" would delay or lose what leaves {real}, the '
                f"interface of {_why_protected(real, facts)}; expected another interface"
            )
        elif real in known["qdiscs"]:
            result.problems.append(
                f"{real} has a qdisc of its own ({known['qdiscs'][real]}), which stays; remove it "
                f"there to have netem of links.{link.name} (tc qdisc del dev {real} root)"
            )
        else:
            if netem.hits_packets(scenario, link, direction):
                _cut_into_packets(real, facts, result)
            result.steps.append(result.netem_step(end.interface, getattr(link, direction)))


def _cut_into_packets(real: str, facts: Facts, result: HostSetUp) -> None:
    """Let TCP hand over single packets, or netem would lose up to 64 KiB for one."""
    (segments,) = (
        device["gso_max_segs"] for device in facts["interfaces"] if device["name"] == real
    )
    if segments is None:
        result.notes.append(
            f"{real} does not tell of gso_max_segs: netem may lose several packets as one there"
        )
    elif segments != 1:
        command = ["ip", "link", "set", "dev", real, "gso_max_segs"]
        result.steps.append(Step([*command, "1"], ([*command, str(segments)],)))


def _limits_command(subflows: int, addresses: int) -> Command:
    values = ["subflows", str(subflows), "add_addr_accepted", str(addresses)]
    return ["ip", "mptcp", "limits", "set", *values]


def _adding(endpoint: Endpoint, number: str, device: str) -> Command:
    command = ["ip", "mptcp", "endpoint", "add", str(endpoint.address), "id", number]
    if device:
        command += ["dev", device]
    if endpoint.port:
        command += ["port", str(endpoint.port)]
    names = [flag.name for flag in Flags if flag in endpoint.flags and flag.name]
    return [*command, *(name.lower() for name in names if name != "IMPLICIT")]

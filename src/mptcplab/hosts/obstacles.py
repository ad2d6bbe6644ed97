"""What can be in the way of a join, each with why, and with the commands that mend it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from mptcplab.hosts.facts import Address, Facts, HostInterface
from mptcplab.hosts.filters import Fate, Verdict
from mptcplab.hosts.judgement import Fix, Obstacle, Step
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags
from mptcplab.wire.text import format_reset_reason

_FIRST_TABLE: Final = 1000
_TABLES_APART: Final = 10_000
_USUAL_PRIORITY: Final = 1000
HOW_TO_SPEAK_MPTCP: Final = (
    "mptcpize run PROGRAM (or mptcpize enable SERVICE); Go: GODEBUG=multipathtcp=1; own code: "
    "socket(..., IPPROTO_MPTCP); whole system: a BPF program at update_socket_protocol"
)

NO_MPTCP: Final = Obstacle(
    "no-mptcp",
    Step.SOCKET,
    "this kernel has no MPTCP: there is no sysctl net.mptcp.enabled",
    "a kernel from 5.6 on with CONFIG_MPTCP=y",
)
"""Nothing under net.mptcp."""

MPTCP_DISABLED: Final = Obstacle(
    "mptcp-disabled",
    Step.SOCKET,
    "net.mptcp.enabled is 0: programs get no MPTCP sockets",
    "switch it on",
    (Fix("sysctl -w net.mptcp.enabled=1"),),
)
"""MPTCP is switched off."""

CAPABLE_DROPPED: Final = Obstacle(
    "capable-dropped",
    Step.CAPABLE,
    "SYNs with MP_CAPABLE got no answer, and the one without it did (MPCapableSYNTXDrop)",
    "find the firewall on the path, or at the peer, that drops SYNs with TCP option 30, and "
    "let them pass",
)
"""SYNs with MP_CAPABLE got no answer, and one without did."""

SERVING_NO_SUBFLOWS: Final = Obstacle(
    "limits-subflows",
    Step.LIMITS,
    "the limit of subflows is 0: joins of peers are rejected (MPJoinRejected)",
    "raise it",
    (Fix("ip mptcp limits set subflows 2"),),
)
"""As a server, the host rejects all joins."""

SERVING_NO_JOINS: Final = Obstacle(
    "denies-initial-address",
    Step.PATH_MANAGER,
    "net.mptcp.allow_join_initial_addr_port is 0 and no endpoint is announced (signal): peers "
    "may join the address that they connected to by no further subflow, and know no other",
    "allow it, or announce an address",
    (Fix("sysctl -w net.mptcp.allow_join_initial_addr_port=1"),),
)
"""As a server, the host offers no address to join."""


def no_connection(error: str, remote: Address, port: int) -> Obstacle:
    """The probe's connection did not come up."""
    return Obstacle(
        "no-connection",
        Step.CAPABLE,
        f"the connection to {remote} port {port} did not come up: {error}",
        f"a server there: mptcplab host --listen {port} on the peer",
    )


def blackhole(timeout: str) -> Obstacle:
    """The kernel sends no MP_CAPABLE for a while."""
    return Obstacle(
        "blackhole",
        Step.CAPABLE,
        "this kernel sent its SYN without MP_CAPABLE (MPCapableSYNTXDisabled): SYNs with it got "
        f"no answer lately, and it leaves the option out for a while ({timeout} s, longer each "
        "time)",
        "mend what drops such SYNs; setting the time to 0 and back ends the pause",
        (
            Fix("sysctl -w net.mptcp.blackhole_timeout=0"),
            Fix(f"sysctl -w net.mptcp.blackhole_timeout={timeout if timeout != '0' else 3600}"),
        ),
    )


def peer_without_option(port: int) -> Obstacle:
    """The SYN/ACK came without MP_CAPABLE."""
    return Obstacle(
        "peer-plain-tcp",
        Step.CAPABLE,
        "the SYN/ACK came without MP_CAPABLE: what listens there is plain TCP, MPTCP is off "
        "there, or a proxy, load balancer or firewall on the path removes the option",
        "look there with mptcplab host (net.mptcp.enabled must be 1); the server must speak "
        f"MPTCP: {HOW_TO_SPEAK_MPTCP}. If mptcplab host --listen {port} there does no better, the "
        "option is removed on the path",
    )


def fell_back_later(counters: Sequence[str]) -> Obstacle:
    """MP_CAPABLE went both ways, and the connection is TCP all the same."""
    known = f" ({', '.join(counters)})" if counters else ""
    return Obstacle(
        "fell-back",
        Step.CAPABLE,
        f"the handshake went well, and then the connection fell back to TCP{known}: something on "
        "the path changes what follows",
        "find what removes TCP options or rewrites the payload behind the handshake (a proxy, "
        "a firewall that inspects): mptcplab inspect a capture of both ends",
    )


def filtered(verdict: Verdict, what: str, step: Step) -> Obstacle:
    """A rule of this host drops a handshake's packet, or takes its option away."""
    does = "drops" if verdict.fate is Fate.DROPPED else "removes the MPTCP option of"
    removal = (Fix(verdict.removal),) if verdict.removal else ()
    return Obstacle(
        "local-filter",
        step,
        f"{verdict} here {does} {what}",
        "remove the rule, or let TCP option 30 pass before it"
        if removal
        else "a rule that accepts it",
        removal,
    )


def userspace_path_manager(sysctls: dict[str, str]) -> Obstacle:
    """Connections are left to a daemon, and none runs."""
    by_name = "net.mptcp.path_manager" in sysctls
    name, value = ("path_manager", "kernel") if by_name else ("pm_type", "0")
    return Obstacle(
        "userspace-path-manager",
        Step.PATH_MANAGER,
        f"net.mptcp.{name} leaves the path manager to a daemon, and mptcpd does not run: unless "
        "another one does, nobody acts on endpoints and announcements",
        "the kernel's path manager (for connections to come), or start mptcpd",
        (Fix(f"sysctl -w net.mptcp.{name}={value}"),),
    )


def denied(remote: Address) -> Obstacle:
    """The peer's C flag."""
    return Obstacle(
        "peer-denies-initial-address",
        Step.PATH_MANAGER,
        f"the peer forbids joins to {remote} (the C flag of its MP_CAPABLE, RFC 8684 section "
        "3.1; net.mptcp.allow_join_initial_addr_port is 0 there)",
        "allow them there, or let the peer announce a further address (ip mptcp endpoint add "
        "ADDRESS signal)",
        (Fix("sysctl -w net.mptcp.allow_join_initial_addr_port=1", "peer"),),
    )


def no_endpoint(local: Address, interface: str, *, nothing_announced: bool) -> Obstacle:
    """No endpoint names an address."""
    also = ", and the peer announced no address" if nothing_announced else ""
    return Obstacle(
        "no-endpoint",
        Step.PATH_MANAGER,
        f"no endpoint names {local}{also}",
        "make it an endpoint",
        (add_endpoint(local, interface, Flags.SUBFLOW),),
    )


def endpoint_without_subflow(endpoint: Endpoint, interface: str) -> Obstacle:
    """An endpoint that this host does not join from."""
    if Flags.SIGNAL in endpoint.flags:
        why = f"the endpoint {endpoint.address} is only signal: it is announced, and the peer's to "
        why += "join; this host joins from endpoints that are subflow"
    else:
        why = f"the endpoint {endpoint.address} has no flag subflow, and is not joined from"
    flags = endpoint.flags | Flags.SUBFLOW
    return Obstacle(
        "endpoint-signal" if Flags.SIGNAL in endpoint.flags else "endpoint-without-subflow",
        Step.PATH_MANAGER,
        why,
        "add the flag subflow",
        (delete_endpoint(endpoint), add_endpoint(endpoint.address, interface, flags)),
    )


def too_few_subflows(allowed: int, needed: int, most: int) -> Obstacle:
    """The limit of subflows."""
    if allowed == 0:
        why = "the limit of subflows is 0: this host makes and accepts none beyond the first"
        code = "limits-subflows"
    else:
        why = f"the limit of {allowed} further subflows is used up by the rows above"
        code = "limits-cut"
    return Obstacle(
        code,
        Step.LIMITS,
        why,
        "raise it" if needed <= most else f"raise it; this kernel takes {most} at most",
        (Fix(f"ip mptcp limits set subflows {max(allowed, min(needed, most))}"),),
    )


def announcements_refused(announced: int, most: int) -> Obstacle:
    """The limit of accepted addresses is 0."""
    return Obstacle(
        "limits-add-addr-accepted",
        Step.LIMITS,
        "the peer announced the address, and the limit add_addr_accepted is 0: announced "
        "addresses are not joined",
        "raise it",
        (Fix(f"ip mptcp limits set add_addr_accepted {min(max(announced, 1), most)}"),),
    )


def interface_down(name: str) -> Obstacle:
    """An interface is set down."""
    return Obstacle(
        "interface-down",
        Step.ADDRESS,
        f"{name} is set down",
        "set it up; routes that went with it come back from whoever configured them",
        (Fix(f"ip link set {name} up"),),
    )


def no_carrier(name: str) -> Obstacle:
    """An interface has no cable."""
    return Obstacle(
        "no-carrier",
        Step.ADDRESS,
        f"{name} has no carrier",
        "plug its cable in, or let it associate",
    )


def address_missing(endpoint: Endpoint, interface: str, instead: Address | None) -> Obstacle:
    """An endpoint's address is not on the host."""
    has = f", whose {interface} has {instead}" if instead is not None else ""
    return Obstacle(
        "endpoint-address-missing",
        Step.ADDRESS,
        f"the endpoint {endpoint.address} is no address of this host{has}",
        "the address that it has now; a script of the DHCP client, NetworkManager or mptcpd keeps "
        "endpoints up to date",
        _moved(endpoint, interface, instead),
    )


def _moved(endpoint: Endpoint, interface: str, instead: Address | None) -> tuple[Fix, ...]:
    """Return the commands that make an endpoint one of another address, or delete it alone."""
    deleted = delete_endpoint(endpoint)
    if instead is None:
        return (deleted,)
    return deleted, add_endpoint(instead, interface, endpoint.flags)


def address_tentative(local: Address, interface: str) -> Obstacle:
    """Duplicate address detection has not ended well."""
    return Obstacle(
        "address-tentative",
        Step.ADDRESS,
        f"{local} on {interface} is tentative, or a duplicate: it may not be used yet (RFC 4862)",
        "wait, or give it an address that no other host has",
    )


def link_local(endpoint: Endpoint, interface: str, instead: Address | None) -> Obstacle:
    """An endpoint with a link-local address."""
    return Obstacle(
        "link-local",
        Step.ADDRESS,
        f"the endpoint {endpoint.address} is link-local: it reaches hosts on its link alone",
        "the interface's global address" if instead is not None else "a global address",
        _moved(endpoint, interface, instead),
    )


def no_route(facts: Facts, local: Address, remote: Address, interface: str, error: str) -> Obstacle:
    """Nothing leads from an address to the peer."""
    via = f" by {interface}" if interface else ""
    reason = f" ({error})" if error else ""
    return Obstacle(
        "no-route",
        Step.ROUTE,
        f"no route leads from {local} to {remote}{via}{reason}{_also_down(facts)}",
        "a route by that interface, in a table of the address",
        source_route(facts, local, remote, interface),
    )


def announced_unreachable(
    facts: Facts, remote: Address, error: str, interface: HostInterface | None
) -> Obstacle:
    """Nothing leads to an address that the peer announced; perhaps an interface there is down."""
    if interface is not None:
        down = interface_down(interface.name)
        why = f"no route leads to {remote} ({error}): {down.why}"
        return Obstacle(down.code, down.step, why, down.remedy, down.fixes)
    return Obstacle(
        "no-route",
        Step.ROUTE,
        f"the peer announced {remote}, and no route leads there ({error}){_also_down(facts)}",
        "a route, if it should be reached; private addresses of the peer are not reachable from "
        "outside, and the peer should not announce them",
        (
            Fix(
                f"ip -{remote.version} route add {remote} via GATEWAY dev INTERFACE",
                complete=False,
            ),
        ),
    )


def _also_down(facts: Facts) -> str:
    names = [each.name for each in facts.interfaces if not each.up and not each.loopback]
    return f"; set down: {', '.join(names)}" if names else ""


def wrong_interface(
    facts: Facts, local: Address, remote: Address, interface: str, other: str
) -> Obstacle:
    """Packets from an address leave by another interface."""
    has_rule = any(f"from {local}/" in text for text in facts.rules)
    why = "" if has_rule else ": no rule leads from that address to a table of its own"
    return Obstacle(
        "route-other-interface",
        Step.ROUTE,
        f"packets from {local} to {remote} leave by {other}, not by {interface}{why}",
        "a table for the address, and a rule that leads there",
        source_route(facts, local, remote, interface),
    )


def reverse_path(
    facts: Facts, local: Address, remote: Address, interface: str, other: str
) -> Obstacle:
    """Strict rp_filter drops the answers."""
    return Obstacle(
        "rp-filter",
        Step.SYN_ACK,
        f"answers come by {interface}, where rp_filter is strict (1), and the way back from "
        f"{local} to {remote} is {other or 'none'}: this host drops them",
        "a rule from the address, so that both ways are one",
        source_route(facts, local, remote, interface),
    )


def source_route(facts: Facts, local: Address, remote: Address, interface: str) -> tuple[Fix, ...]:
    """Return the commands that let what comes from an address leave by its interface."""
    ip = f"ip -{local.version}"
    by_table: dict[int, set[str]] = {}
    for entry in facts.routes:
        if entry.network.version == local.version:
            by_table.setdefault(entry.table, set()).add(entry.interface)
    ways = [
        each
        for each in facts.routes
        if each.interface == interface
        and each.network.version == remote.version
        and remote in each.network
    ]
    own = [each.table for each in ways if by_table[each.table] == {interface}]
    own = [table for table in own if table not in (253, 254, 255)]
    fixes = []
    if own:
        table = own[0]
    else:
        table = _free_table(facts, interface, by_table)
        gateway = next((each.gateway for each in ways if each.gateway is not None), None)
        to = "default" if gateway is not None or not ways else str(ways[0].network)
        via = f" via {gateway}" if gateway is not None else "" if ways else " via GATEWAY"
        command = f"{ip} route add {to}{via} dev {interface} table {table}"
        fixes.append(Fix(command, complete=bool(ways)))
    fixes.append(Fix(f"{ip} rule add from {local} table {table} priority {_priority(facts)}"))
    return tuple(fixes)


def _free_table(facts: Facts, interface: str, taken: Container[int]) -> int:
    """Return a table that no route is in, and none that another interface is given."""
    device = facts.interface(interface)
    first = _FIRST_TABLE + (device.index % _TABLES_APART if device is not None else 0)
    return next(t for t in range(first, 1 << 31, _TABLES_APART) if t not in taken)


def _priority(facts: Facts) -> int:
    """Return a priority that comes before all rules but that of the table local."""
    taken = [int(text.partition(":")[0]) for text in facts.rules]
    first = min((priority for priority in taken if priority), default=_USUAL_PRIORITY + 1)
    return max(1, min(_USUAL_PRIORITY, first - 1))


def first_address_out_of_reach(
    endpoint: Endpoint, interface: str, why: str, has_laminar: bool
) -> Obstacle:
    """An endpoint is joined to the peer's first address too, and that cannot be."""
    fixes: tuple[Fix, ...] = ()
    if has_laminar:
        flags = endpoint.flags & ~(Flags.SUBFLOW | Flags.SIGNAL) | Flags.LAMINAR
        again = add_endpoint(endpoint.address, interface, flags)
        fixes = (delete_endpoint(endpoint), again)
    return Obstacle(
        "first-address-out-of-reach",
        Step.ROUTE,
        f"{endpoint.address} has its subflow to an address that the peer announced; being subflow, "
        f"it is joined to the peer's first address too, and {why}",
        "nothing is missing; a laminar endpoint joins announced addresses alone (Linux 6.18, "
        "iproute2 6.18)",
        fixes,
    )


def not_sent(local: Address, remote: Address) -> Obstacle:
    """The join's SYN never left, and no rule that could be read says why."""
    return Obstacle(
        "syn-not-sent",
        Step.SYN,
        f"the SYN from {local} to {remote} left by no interface: the next hop does not answer "
        "(ARP, neighbour discovery), or something on this host drops it that was not read (BPF)",
        "ip neighbour shows a next hop that failed; bpftool net shows programs",
    )


def join_dropped(local: Address, remote: Address, *, own_rules_known: bool) -> Obstacle:
    """TCP goes through and MP_JOIN does not."""
    or_here = "" if own_rules_known else ", or a rule of this host (which root could read)"
    return Obstacle(
        "join-dropped",
        Step.SYN_ACK,
        f"the SYN with MP_JOIN from {local} to {remote} gets no answer, and a plain TCP "
        f"connection between the two comes up: something on the path, or at the peer{or_here}, "
        "drops MP_JOIN",
        "find the firewall that drops SYNs with TCP option 30 (conntrack or IPS rules on options "
        "too) and let them pass",
    )


def no_answer(local: Address, remote: Address, plain: str) -> Obstacle:
    """Nothing goes through between two addresses."""
    also = "; a plain TCP connection between the two gets none either" if plain else ""
    return Obstacle(
        "no-answer",
        Step.SYN_ACK,
        f"the SYN from {local} to {remote} gets no answer{also}",
        f"ping -I {local} {remote}: the network behind that interface must reach the peer, and the "
        "way back must lead there",
    )


def announced_no_answer(local: Address, remote: Address) -> Obstacle:
    """An address that the peer announced does not answer."""
    return Obstacle(
        "announced-no-answer",
        Step.SYN_ACK,
        f"the peer announced {remote}, and the SYN from {local} to it gets no answer",
        "an address that cannot be reached from here (behind a NAT, of a container) should not be "
        "announced: ip mptcp endpoint delete at the peer; otherwise a firewall or the way back is "
        "in the way",
    )


def answer_dropped(local: Address, remote: Address, filtered_here: bool) -> Obstacle:
    """The SYN/ACK came to the host, and TCP did not get it."""
    how = " (IPReversePathFilter moved: rp_filter)" if filtered_here else ""
    return Obstacle(
        "answer-dropped-here",
        Step.SYN_ACK,
        f"the SYN/ACK from {remote} to {local} arrived, and this host dropped it{how}",
        "rp_filter, or filter rules on what comes in",
    )


def join_without_option(local: Address, remote: Address) -> Obstacle:
    """The SYN/ACK of a join came without MP_JOIN."""
    return Obstacle(
        "join-option-stripped",
        Step.SYN_ACK,
        f"the SYN/ACK from {remote} to {local} came without MP_JOIN: something on that path "
        "removes the option, or a load balancer gave the SYN to another machine",
        "find what removes TCP option 30 on that path; a load balancer must send joins to the "
        "server that has the connection",
    )


def refused(local: Address, remote: Address, reason: int | None) -> Obstacle:
    """The SYN of a join was answered by a reset."""
    why = "" if reason is None else f" ({format_reset_reason(reason)})"
    return Obstacle(
        "join-refused",
        Step.SYN_ACK,
        f"the SYN with MP_JOIN from {local} to {remote} was answered by a reset{why}: that machine "
        "does not know the connection, or nothing listens there",
        "a server that listens on all its addresses; a load balancer must send joins to the server "
        "that has the connection",
    )


def rejected(
    local: Address, remote: Address, reason: int | None, *, by_counters: bool = False
) -> Obstacle:
    """The peer closed a subflow at its ACK."""
    if by_counters:
        why = "the subflow is gone again (by this host's counters, MPJoinSynAckRx), as where the "
        why += "peer's limit of subflows is reached"
    elif reason is None:
        why = "closed it at once, as a peer does whose limit of subflows is reached"
    else:
        why = f"reset it ({format_reset_reason(reason)}), as Linux does at its limit of subflows"
    return Obstacle(
        "peer-rejects",
        Step.ACK,
        f"the peer answered the SYN from {local} to {remote}, and {why}",
        "raise the limit there (its counter MPTcpExtMPJoinRejected moves)",
        (Fix("ip mptcp limits set subflows 8", "peer"),),
    )


def closed(local: Address, remote: Address, error: str) -> Obstacle:
    """A subflow came and went."""
    return Obstacle(
        "closed",
        Step.ACK,
        f"the subflow from {local} to {remote} came up and was closed again ({error})",
        "mptcplab inspect a capture of it",
    )


def add_endpoint(address: Address, interface: str, flags: Flags) -> Fix:
    """Return the command that adds an endpoint."""
    words = [str(flag.name).lower() for flag in Flags if flag in flags and flag.name != "IMPLICIT"]
    device = f" dev {interface}" if interface else ""
    return Fix(f"ip mptcp endpoint add {address}{device} {' '.join(words)}".rstrip())


def delete_endpoint(endpoint: Endpoint) -> Fix:
    """Return the command that deletes an endpoint."""
    return Fix(f"ip mptcp endpoint delete id {endpoint.identifier}")


def serving_missing(endpoint: Endpoint) -> Obstacle:
    """As a server, the host announces what it does not have."""
    return Obstacle(
        "endpoint-address-missing",
        Step.ADDRESS,
        f"{endpoint.address} is announced to peers (signal) and is no address of this host",
        "delete the endpoint, or announce the public address only where a NAT leads here",
        (delete_endpoint(endpoint),),
    )

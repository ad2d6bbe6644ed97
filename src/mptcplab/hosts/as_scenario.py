"""A host's set-up as a scenario, so that it can be tried in the laboratory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from mptcplab.hosts.examine import Examination
from mptcplab.hosts.facts import Facts, Network
from mptcplab.hosts.judge import ANYWHERE

_RATE: Final = "100Mb/s"
_RTT: Final = "20ms"
_KEPT_SYSCTL: Final = "net.mptcp.allow_join_initial_addr_port"


def scenario_text(examination: Examination) -> str:
    """Return a scenario of this host and a peer, joined by a link for each usable address.

    Rates and round trips are unknown and stand there as examples; so do the peer's addresses on
    these links.  What the scenario cannot say of the host stands in comments.
    """
    return "\n".join(_lines(examination)) + "\n"


def _lines(examination: Examination) -> Iterator[str]:
    facts, judgement = examination.facts, examination.judgement
    usable = [a for a in map(facts.assigned, judgement.expected) if a is not None]
    peer = judgement.probe.remote if judgement.probe is not None else None
    yield f'title = "A host as mptcplab host read it (Linux {_safe(facts.kernel)})"'
    yield 'question = "How many subflows does this host make to a peer, and what do they carry?"'
    yield 'duration = "10s"'
    yield ""
    yield "# As it was read:"
    yield from (f"# {text}" for text in _not_said(facts))
    if peer is not None and peer not in ANYWHERE:
        yield f"# the peer: {peer}"
    yield "# Unknown, and examples alone: rates, round trips, the peer's addresses."
    taken: set[Network] = set()
    for each in usable:
        yield ""
        yield f'[hosts.client.interfaces."{_safe(each.interface)}"]'
        network = ip_network((each.address.packed, each.prefix), strict=False)
        if network.num_addresses > 2 and network not in taken:
            taken.add(network)
            yield f'addresses = "{each.address}/{each.prefix}"'
        else:
            yield f"# {each.address}/{each.prefix}, whose network has no room for a link of its own"
        interface = facts.interface(each.interface)
        if interface is not None and interface.mtu != 1500 and 576 <= interface.mtu <= 65535:
            yield f"mtu = {interface.mtu}"
    yield ""
    yield "[hosts.client.tunables]"
    yield 'path_manager = "kernel"'
    yield f"enabled = {str(facts.sysctls.get('net.mptcp.enabled') == '1').lower()}"
    yield f"checksum = {str(facts.sysctls.get('net.mptcp.checksum_enabled') == '1').lower()}"
    if facts.sysctls.get(_KEPT_SYSCTL) == "0":
        yield f'sysctls = {{ "{_KEPT_SYSCTL}" = "0" }}'
    yield ""
    yield "[hosts.peer]"
    for number, each in enumerate(usable, 1):
        yield ""
        yield f"[links.link{number}]"
        yield f'between = ["client:{_safe(each.interface)}", "peer"]'
        yield f'rate = "{_RATE}"'
        yield f'rtt = "{_RTT}"'
    yield ""
    yield "[flows.main]"
    yield 'from = "client"'
    yield 'to = "peer"'


def _not_said(facts: Facts) -> Iterator[str]:
    for endpoint in facts.endpoints or ():
        device = facts.interface_name(endpoint.interface_index)
        yield _safe(f"endpoint {endpoint}" + (f" dev {device}" if device else ""))
    if facts.limits is not None:
        yield (
            f"limits: subflows {facts.limits.subflows}, add_addr_accepted "
            f"{facts.limits.add_addr_accepted}"
        )
    for rule in facts.rules:
        yield _safe(f"rule {rule}")
    for each in facts.routes:
        via = f" via {each.gateway}" if each.gateway is not None else ""
        yield _safe(f"route {each.network}{via} dev {each.interface} table {each.table}")


def _safe(text: str) -> str:
    """Return a text that may stand in quotes and in comments of TOML."""
    return re.sub(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]", "?", text)

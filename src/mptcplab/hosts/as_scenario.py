"""A host's set-up as a scenario, so that it can be tried in the laboratory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mptcplab.hosts.examine import Examination
from mptcplab.hosts.facts import Facts
from mptcplab.hosts.judge import ANYWHERE

_RATE: Final = "100Mb/s"
_RTT: Final = "20ms"
_KEPT_SYSCTLS: Final = (
    "net.mptcp.add_addr_timeout",
    "net.mptcp.allow_join_initial_addr_port",
    "net.mptcp.stale_loss_cnt",
)


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
    for each in usable:
        name = _safe(each.interface)
        yield ""
        yield f"[hosts.client.interfaces.\"{name}\"]"
        yield f'addresses = "{each.address}/{each.prefix}"'
        interface = facts.interface(each.interface)
        if interface is not None and interface.mtu != 1500 and 576 <= interface.mtu <= 65535:
            yield f"mtu = {interface.mtu}"
    yield ""
    yield "[hosts.client.tunables]"
    yield f"enabled = {str(facts.sysctls.get('net.mptcp.enabled') == '1').lower()}"
    yield f"checksum = {str(facts.sysctls.get('net.mptcp.checksum_enabled') == '1').lower()}"
    kept = [(name, facts.sysctls[name]) for name in _KEPT_SYSCTLS if name in facts.sysctls]
    if kept:
        yield "sysctls = { " + ", ".join(f'"{name}" = "{_safe(v)}"' for name, v in kept) + " }"
    yield ""
    yield "[hosts.peer]"
    for each in usable:
        name = _safe(each.interface)
        yield ""
        yield f'[links."{name}"]'
        yield f'between = ["client:{name}", "peer"]'
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



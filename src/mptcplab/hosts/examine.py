"""The whole examination of this host: read, perhaps connect to a peer, read again, judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mptcplab.hosts.facts import Address, Facts, PacketsSeen, Probe
from mptcplab.hosts.judge import ANYWHERE, judge, usable_addresses
from mptcplab.hosts.judgement import Judgement
from mptcplab.hosts.probe import probe
from mptcplab.hosts.read import read_facts


@dataclass(frozen=True, slots=True)
class Examination:
    """What was read of a host, and what is said of it."""

    facts: Facts
    judgement: Judgement


def examine_host(seen: PacketsSeen | None = None, peers: Sequence[Address] = ()) -> Examination:
    """Judge connections to peers, or to any destination of the default route; nothing is sent."""
    facts = read_facts([*(peers or ANYWHERE), *(seen.announced if seen else ())])
    remotes = list(peers) or [each for each in ANYWHERE if _leads_somewhere(facts, each)]
    return Examination(facts, judge(facts, remotes, None, seen))


def _leads_somewhere(facts: Facts, remote: Address) -> bool:
    lookup = facts.lookup(remote)
    return lookup is not None and not lookup.error


def examine_peer(
    peers: Sequence[Address], port: int, wait_s: float, seen: PacketsSeen | None = None
) -> Examination:
    """Open one MPTCP connection to the first of a peer's addresses that answers, and judge that."""
    done: Probe | None = None
    for peer in peers:
        before = read_facts([peer])
        names = {each.index: each.name for each in before.interfaces}
        done = probe(
            peer,
            port,
            expected=len(usable_addresses(before, [peer])),
            wait_s=wait_s,
            devices={
                each.address: names[each.interface_index]
                for each in before.endpoints or ()
                if each.interface_index in names
            },
        )
        if done.protocol:
            break
    if done is None:
        raise ValueError("a peer without an address")
    announced = done.announced or (seen.announced if seen else ())
    facts = read_facts([done.remote, *announced])
    return Examination(facts, judge(facts, [done.remote], done, seen))

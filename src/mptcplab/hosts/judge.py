"""From facts to a judgement: what will join and what will not, and why.  Pure functions.

What is said follows from what was read, or from what came of a probe; what follows from neither is
unknown.  The kernel's own choices are those of net/mptcp/pm_kernel.c: a connection's client joins
the peer's first address from each ``subflow`` endpoint in their order, then each announced address
from the address that routing chooses, or from all ``fullmesh``, or from a ``laminar`` endpoint.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Final

from mptcplab.hosts import obstacles as because
from mptcplab.hosts.facts import (
    Address,
    Came,
    Facts,
    HandshakeSeen,
    HostAddress,
    HostInterface,
    Lookup,
    PacketsSeen,
    Probe,
    ProgramSocket,
)
from mptcplab.hosts.filters import Fate, FirstPacket, fate
from mptcplab.hosts.judgement import Count, Judgement, Obstacle, Outcome, Remark, Row, Step
from mptcplab.linux.kernel.mptcp_endpoints import ENDPOINTS_MAX, Endpoint, Flags
from mptcplab.wire.mptcp import MP_CAPABLE, MP_JOIN

ANYWHERE: Final = (ip_address("198.51.100.1"), ip_address("2001:db8::1"))
"""Stand-ins for any destination of the default route (RFC 5737, RFC 3849)."""
_SHOWN: Final = 5
_NOT_TRIED: Final = ("no-endpoint", "endpoint-signal", "endpoint-without-subflow")
"""What keeps the kernel from trying to join a peer's first address from one of this host's."""


def has_laminar(kernel: str) -> bool:
    """Say whether a kernel knows laminar endpoints: Linux 6.18 and later."""
    numbers = [int(part) for part in re.findall(r"\d+", kernel)[:2]]
    return len(numbers) == 2 and tuple(numbers) >= (6, 18)


def usable_addresses(facts: Facts, remotes: Sequence[Address]) -> list[HostAddress]:
    """Return the addresses that could carry a subflow to any of some addresses, one of each
    interface and IP version.

    Those are of interfaces that are up and lead there by a route of any table, and are neither
    link-local, tentative, deprecated nor secondary.  Of several, an endpoint's comes first.
    """
    named = {each.address for each in facts.endpoints or ()}
    found: dict[tuple[str, int], HostAddress] = {}
    for each in facts.addresses:
        interface = facts.interface(each.interface)
        if interface is None or not (interface.up and interface.carrier) or interface.loopback:
            continue
        if each.scope != "global" or each.tentative or each.deprecated or each.secondary:
            continue
        if not any(_leads(facts, each.interface, remote, each) for remote in remotes):
            continue
        key = each.interface, each.address.version
        if key not in found or each.address in named:
            found[key] = each
    return list(found.values())


def _leads(facts: Facts, interface: str, remote: Address, address: HostAddress) -> bool:
    """Say whether any route by an interface covers a destination, of an address's IP version."""
    return address.address.version == remote.version and any(
        each.interface == interface and remote in each.network
        for each in facts.routes
        if each.network.version == remote.version
    )


def judge(
    facts: Facts,
    remotes: Sequence[Address] = (),
    probe: Probe | None = None,
    seen: PacketsSeen | None = None,
) -> Judgement:
    """Return what is to be said of connections to ``remotes``, the first being the initial one.

    Without a probe, ``remotes`` may be the stand-ins ``ANYWHERE``.  ``seen`` is what a capture
    showed of an earlier connection; a probe's own packets count before it.
    """
    return _Case(facts, remotes, probe, seen).judgement()


class _Case:
    """One host, and whom it connects to."""

    def __init__(
        self,
        facts: Facts,
        remotes: Sequence[Address],
        probe: Probe | None,
        seen: PacketsSeen | None,
    ) -> None:
        self.facts = facts
        self.probe = probe
        self.seen = probe.packets if probe is not None and probe.packets is not None else seen
        self.remotes = list(remotes)
        announced = (probe.announced if probe else None) or (seen.announced if seen else ())
        firsts = set(self.remotes)
        self.announced = [a for a in announced if a not in firsts] if announced else []
        self.usable = usable_addresses(facts, [*self.remotes, *self.announced])
        self.general = list(self._general())
        self.most = ENDPOINTS_MAX

    # what is in the way of every join

    def _general(self) -> Iterator[Obstacle]:
        sysctls = dict(self.facts.sysctls)
        if "net.mptcp.enabled" not in sysctls:
            yield because.NO_MPTCP
        elif sysctls["net.mptcp.enabled"] == "0":
            yield because.MPTCP_DISABLED
        yield from self._capable()
        is_userspace = (
            sysctls.get("net.mptcp.path_manager") == "userspace"
            or sysctls.get("net.mptcp.pm_type") == "1"
        )
        if is_userspace and not any(each.name == "mptcpd" for each in self.facts.services):
            yield because.userspace_path_manager(sysctls)

    def _capable(self) -> Iterator[Obstacle]:
        """What the probe's first handshake says."""
        probe = self.probe
        if probe is None or probe.protocol == "mptcp":
            return
        local = [o for o in self._first_filtered(probe) if o is not None]
        if local:
            yield from local
        elif not probe.protocol:
            if self.facts.sysctls.get("net.mptcp.enabled", "0") != "0":
                yield because.no_connection(probe.error, probe.remote, probe.port)
        elif probe.counters.get("MPTcpExtMPCapableSYNTXDisabled"):
            timeout = self.facts.sysctls.get("net.mptcp.blackhole_timeout", "3600")
            yield because.blackhole(timeout)
        elif probe.counters.get("MPTcpExtMPCapableSYNTXDrop"):
            yield because.CAPABLE_DROPPED
        elif self._answered_without_option(probe):
            yield because.peer_without_option(probe.port)
        else:
            yield because.fell_back_later(
                sorted(name for name in probe.counters if "Fallback" in name)
            )

    def _answered_without_option(self, probe: Probe) -> bool:
        first = [h for h in self.seen.handshakes if h.initial] if self.seen else []
        if any(each.answer == "syn-ack without option" for each in first):
            return True
        return bool(probe.counters.get("MPTcpExtMPCapableFallbackSYNACK"))

    def _first_filtered(self, probe: Probe) -> Iterator[Obstacle | None]:
        lookup = self.facts.lookup(probe.remote)
        local = probe.local or (lookup.chosen if lookup else None)
        if local is not None and lookup is not None:
            yield from self._filters(local, probe.remote, lookup.interface, MP_CAPABLE)

    # rows

    def judgement(self) -> Judgement:
        rows = [row for remote in self.remotes for row in self._rows(remote)]
        rows += self._announced_rows()
        rows = self._without_covered(self._limited(rows))
        rows = [self._aside(row, rows) for row in rows]
        return Judgement(
            rows=tuple(rows),
            general=tuple(self.general),
            serving=tuple(self._serving()),
            remarks=tuple(self._remarks()),
            expected=self._expected(),
            counts=tuple(self._counts(rows)),
            probe=self.probe,
            unread=self.facts.unread,
        )

    def _counts(self, rows: Sequence[Row]) -> Iterator[Count]:
        expected = self._expected()
        remotes = (*self.remotes, *self.announced)
        for version in sorted({each.version for each in (*expected, *remotes)}):
            some = [row for row in rows if row.local is not None and row.local.version == version]
            number = sum(each.version == version for each in expected)
            if version == self.remotes[0].version:
                number += sum(row.remote is None for row in rows)
            yield Count(version, number, self._subflows(some, version))

    def _subflows(self, rows: Sequence[Row], version: int) -> int | None:
        """Return how many subflows of an IP version stand, or would come."""
        probe = self.probe
        if probe is not None:
            if probe.protocol == "fallback":
                return int(probe.remote.version == version)
            return sum(each.local.version == version for each in probe.established)
        if any(row.outcome is Outcome.UNKNOWN for row in rows):
            return None
        coming = (Outcome.OPENS_FIRST, Outcome.WILL_JOIN)
        return 0 if self.general else sum(row.outcome in coming for row in rows)

    def _rows(self, remote: Address) -> Iterator[Row]:
        """The rows of an initial remote address: the first subflow, endpoints, other addresses."""
        first = self._first_local(remote)
        if first is not None:
            assigned = self.facts.assigned(first)
            yield Row(
                first,
                assigned.interface if assigned else "",
                remote,
                Outcome.OPENS_FIRST,
            )
        done = {first}
        for endpoint in self._endpoints():
            is_tried = endpoint.address.version == remote.version and endpoint.address not in done
            if is_tried and Flags.LAMINAR not in endpoint.flags:
                done.add(endpoint.address)
                yield self._row(endpoint.address, remote, endpoint)
        for each in self.usable:
            is_new = each.address.version == remote.version and each.address not in done
            if is_new and not self._stands_in(each, done):
                yield self._row(each.address, remote, None)

    def _stands_in(self, each: HostAddress, done: set[Address | None]) -> bool:
        """Say whether an endpoint that cannot be used stands for an address's interface."""
        for endpoint in self._endpoints():
            assigned = self.facts.assigned(endpoint.address)
            is_useless = assigned is None or assigned.scope == "link"
            if endpoint.address in done and is_useless and self._instead(endpoint) == each.address:
                return True
        return False

    def _first_local(self, remote: Address) -> Address | None:
        probe = self.probe
        if probe is not None and probe.remote == remote and probe.local is not None:
            return probe.local
        lookup = self.facts.lookup(remote)
        return lookup.chosen if lookup is not None else None

    def _endpoints(self) -> list[Endpoint]:
        return [e for e in self.facts.endpoints or () if Flags.IMPLICIT not in e.flags]

    def _announced_rows(self) -> list[Row]:
        found = []
        for remote in self.announced:
            for local, endpoint in self._joining(remote):
                found.append(self._announced_row(local, remote, endpoint))
        return found + self._unheard_row()

    def _unheard_row(self) -> list[Row]:
        """The row of what the peer announced, where counters alone tell of it."""
        probe = self.probe
        if probe is None or probe.announced is not None or self.announced:
            return []
        count = probe.counters.get("MPTcpExtAddAddr", 0)
        if not count:
            return []
        others = {s.remote for s in probe.established} - set(self.remotes)
        if others:
            return [
                Row(s.local, self._interface_of(s.local, None), s.remote, Outcome.JOINED)
                for s in probe.established
                if s.remote in others
            ]
        limits = self.facts.limits
        if limits is not None and limits.add_addr_accepted == 0:
            refused = because.announcements_refused(count, self.most)
            return [Row(None, "", None, Outcome.WILL_NOT, (refused,))]
        note = "an announcement came (MPTcpExtAddAddr); which address it was, root is told"
        return [Row(None, "", None, Outcome.UNKNOWN, (), note)]

    def _joining(self, remote: Address) -> list[tuple[Address | None, Endpoint | None]]:
        """Return who joins an announced address: who did, or who would."""
        endpoints = [e for e in self._endpoints() if e.address.version == remote.version]
        did = [s.local for s in self.probe.subflows if s.remote == remote] if self.probe else []
        if did:
            bound = {e.address: e for e in endpoints if e.flags & (Flags.FULLMESH | Flags.LAMINAR)}
            return [(local, bound.get(local)) for local in dict.fromkeys(did)]
        mesh = [e for e in endpoints if Flags.FULLMESH in e.flags]
        if mesh:
            return [(e.address, e) for e in mesh]
        lookup = self.facts.lookup(remote)
        chosen = lookup.chosen if lookup is not None else None
        laminar = [e for e in endpoints if Flags.LAMINAR in e.flags]
        if laminar:
            best = next((e for e in laminar if e.address == chosen), laminar[0])
            return [(best.address, best)]
        return [(chosen, None)]

    def _announced_row(
        self, local: Address | None, remote: Address, endpoint: Endpoint | None
    ) -> Row:
        assigned = self.facts.assigned(local) if local is not None else None
        interface = assigned.interface if assigned else ""
        in_the_way: list[Obstacle] = []
        limits = self.facts.limits
        if limits is not None and limits.add_addr_accepted == 0:
            in_the_way.append(because.announcements_refused(len(self.announced), self.most))
        lookup = self.facts.lookup(remote)
        if local is None and lookup is not None and lookup.error:
            lost = self._interface_towards(remote)
            in_the_way.append(because.announced_unreachable(self.facts, remote, lookup.error, lost))
        elif local is not None:
            device = self._device(endpoint)
            in_the_way += self._on_the_way(local, remote, interface, device)
        return self._outcome(local, interface, remote, in_the_way)

    def _interface_towards(self, remote: Address) -> HostInterface | None:
        """Return the interface that is down and whose address is on a destination's network."""
        for each in self.facts.addresses:
            interface = self.facts.interface(each.interface)
            if interface is None or interface.up or each.address.version != remote.version:
                continue
            if remote in ip_network((each.address.packed, each.prefix), strict=False):
                return interface
        return None

    def _row(self, local: Address, remote: Address, endpoint: Endpoint | None) -> Row:
        """Judge a join from an address of this host to the peer's first address."""
        in_the_way: list[Obstacle] = []
        if self._denies() and remote == self.remotes[0]:
            in_the_way.append(because.denied(remote))
        interface = self._interface_of(local, endpoint)
        if endpoint is None:
            nothing = self.probe is not None and self.probe.announced == ()
            in_the_way.append(because.no_endpoint(local, interface, nothing_announced=nothing))
        elif Flags.SUBFLOW not in endpoint.flags:
            in_the_way.append(because.endpoint_without_subflow(endpoint, interface))
        unusable = self._unusable(local, interface, endpoint)
        if unusable is not None:
            in_the_way.append(unusable)
        else:
            device = interface if endpoint is None else self._device(endpoint)
            in_the_way += self._on_the_way(local, remote, interface, device)
        return self._outcome(local, interface, remote, in_the_way)

    def _interface_of(self, local: Address, endpoint: Endpoint | None) -> str:
        if endpoint is not None and endpoint.interface_index:
            return self._device(endpoint)
        assigned = self.facts.assigned(local)
        if assigned is not None:
            return assigned.interface
        instead = self._instead(endpoint) if endpoint is not None else None
        place = self.facts.assigned(instead) if instead is not None else None
        return place.interface if place is not None else ""

    def _device(self, endpoint: Endpoint | None) -> str:
        return "" if endpoint is None else self.facts.interface_name(endpoint.interface_index)

    def _unusable(
        self, local: Address, interface: str, endpoint: Endpoint | None
    ) -> Obstacle | None:
        device = self.facts.interface(interface)
        if device is not None and not device.up:
            return because.interface_down(interface)
        assigned = self.facts.assigned(local)
        if assigned is None and endpoint is not None:
            return because.address_missing(endpoint, interface, self._instead(endpoint))
        if assigned is not None and assigned.scope == "link" and endpoint is not None:
            return because.link_local(endpoint, interface, self._instead(endpoint))
        if device is not None and not device.carrier:
            return because.no_carrier(interface)
        if assigned is not None and assigned.tentative:
            return because.address_tentative(local, interface)
        return None

    def _instead(self, endpoint: Endpoint) -> Address | None:
        """Return the address that an endpoint should name: of its interface, or the only one that
        no endpoint names and that does not open first.
        """
        name = self._device(endpoint)
        named = {each.address for each in self._endpoints()}
        firsts = {self._first_local(remote) for remote in self.remotes}
        candidates = [
            each
            for each in self.usable
            if each.address.version == endpoint.address.version
            and each.address not in named
            and each.address not in firsts
            and name in ("", each.interface)
        ]
        return candidates[0].address if len(candidates) == 1 else None

    def _on_the_way(
        self, local: Address, remote: Address, interface: str, device: str
    ) -> Iterator[Obstacle]:
        """Yield what is in the way of a join's packets: routes, rp_filter, filter rules."""
        facts = self.facts
        lookup = facts.lookup(remote, local, device)
        if lookup is None:
            return
        unbound = facts.lookup(remote, local)
        if lookup.error or self._is_assumed(lookup):
            yield because.no_route(facts, local, remote, interface, lookup.error)
        elif lookup.interface != interface:
            yield because.wrong_interface(facts, local, remote, interface, lookup.interface)
        elif self._reverse_differs(interface, unbound):
            other = unbound.interface if unbound is not None else ""
            yield because.reverse_path(facts, local, remote, interface, other)
        yield from self._filters(local, remote, lookup.interface, MP_JOIN)

    def _is_assumed(self, lookup: Lookup) -> bool:
        """Say whether the kernel took a destination for a neighbour, having no route by the
        interface that was asked for (net/ipv4/route.c, ip_route_output_key_hash_rcu).
        """
        return (
            bool(lookup.device)
            and lookup.gateway is None
            and not any(
                each.interface == lookup.interface
                and each.gateway is None
                and each.network.version == lookup.destination.version
                and lookup.destination in each.network
                for each in self.facts.routes
            )
        )

    def _reverse_differs(self, interface: str, unbound: Lookup | None) -> bool:
        device = self.facts.interface(interface)
        is_strict = device is not None and device.rp_filter == 1
        return (
            is_strict
            and unbound is not None
            and unbound.destination.version == 4
            and unbound.interface != interface
        )

    def _filters(
        self, local: Address, remote: Address, interface: str, subtype: int
    ) -> Iterator[Obstacle]:
        """Yield the rules of this host that certainly keep a handshake's packets from passing."""
        port = self.probe.port if self.probe is not None else None
        name = "MP_JOIN" if subtype == MP_JOIN else "MP_CAPABLE"
        for direction, what, step in (
            ("out", f"the SYN with {name}", Step.SYN),
            ("in", f"the SYN/ACK with {name}", Step.SYN_ACK),
        ):
            if direction == "out":
                packet = FirstPacket(direction, local, remote, None, port, subtype, interface)
            else:
                packet = FirstPacket(direction, remote, local, port, None, subtype, interface)
            verdict = fate(self.facts.chains or (), packet)
            if verdict.fate in (Fate.DROPPED, Fate.STRIPPED):
                yield because.filtered(verdict, what, step)

    def _denies(self) -> bool | None:
        if self.probe is not None and self.probe.denies_initial_address is not None:
            return self.probe.denies_initial_address
        return self.seen.denies_initial_address if self.seen is not None else None

    # what came of it

    def _outcome(
        self, local: Address | None, interface: str, remote: Address, in_the_way: list[Obstacle]
    ) -> Row:
        """Put what was read beside what came of the probe, and of packets."""
        outcome = Outcome.WILL_NOT if in_the_way else Outcome.WILL_JOIN
        note = ""
        if self.probe is None:
            if self.facts.lookup(remote, local) is None and not in_the_way:
                outcome, note = Outcome.UNKNOWN, "no route was looked up: name a peer"
            return self._seen_before(
                Row(local, interface, remote, outcome, tuple(in_the_way), note)
            )
        came = self.probe.subflow(local, remote) if local is not None else None
        shake = self.seen.handshake(local, remote) if self.seen and local is not None else None
        if shake is not None and interface in shake.syn_interfaces:
            in_the_way = [o for o in in_the_way if o.code != "route-other-interface"]
        row = Row(local, interface, remote, outcome, tuple(in_the_way), note)
        if self.probe.protocol != "mptcp":
            note = "" if in_the_way else "for the reason above"
            return replace(row, outcome=Outcome.WILL_NOT, note=note)
        if came is not None and came.came is Came.ESTABLISHED:
            return self._joined(row)
        if came is None and shake is None:
            return self._untried(row)
        explained = self._failure(local or remote, remote, shake, row.obstacles)
        return replace(row, outcome=Outcome.FAILED, obstacles=explained)

    def _joined(self, row: Row) -> Row:
        """A subflow that stands; only that it goes another way than its interface is said."""
        odd = [o for o in row.obstacles if o.code == "route-other-interface"]
        return replace(row, outcome=Outcome.JOINED, obstacles=tuple(odd))

    def _untried(self, row: Row) -> Row:
        probe = self.probe
        assert probe is not None
        if row.obstacles:
            return replace(row, outcome=Outcome.WILL_NOT)
        if self.general:
            return replace(row, outcome=Outcome.WILL_NOT, note="for the reason above")
        if probe.packets is None and self._came_and_went() and row.local is not None:
            gone = because.rejected(row.local, row.remote or row.local, None, by_counters=True)
            return replace(row, outcome=Outcome.FAILED, obstacles=(gone,))
        if self._denies() is None and row.remote in self.remotes:
            note = (
                "it was not tried, and nothing that was read forbids it; whether the peer forbids "
                "joins to this address (the C flag) shows in packets alone: run it as root, or "
                "give it a --capture"
            )
            return replace(row, outcome=Outcome.UNKNOWN, note=note)
        errors = [name for name in probe.counters if name.startswith("MPTcpExtMPJoinSynTx")]
        failed = [name for name in errors if name.endswith("Err")]
        tail = f" ({', '.join(failed)} moved)" if failed else ""
        note = f"nothing that was read forbids it, and it was not tried{tail}"
        return replace(row, outcome=Outcome.UNKNOWN, note=note)

    def _came_and_went(self) -> bool:
        """Say whether the host's counters show a join that was answered and is gone again."""
        probe = self.probe
        if probe is None:
            return False
        known = [s for s in probe.subflows if (s.local, s.remote) != (probe.local, probe.remote)]
        answered = sum(each.came is not Came.UNANSWERED for each in known)
        return (
            probe.counters.get("MPTcpExtMPJoinSynTx", 0) > len(known)
            and probe.counters.get("MPTcpExtMPJoinSynAckRx", 0) > answered
        )

    def _failure(
        self,
        local: Address,
        remote: Address,
        shake: HandshakeSeen | None,
        known: tuple[Obstacle, ...],
    ) -> tuple[Obstacle, ...]:
        """Return why a join that was tried failed: what was read, else what the probe found."""
        probe = self.probe
        assert probe is not None
        came = probe.subflow(local, remote)
        steps = (Step.ADDRESS, Step.ROUTE, Step.SYN, Step.SYN_ACK)
        way = tuple(o for o in known if o.step in steps)
        if came is not None and came.came is Came.CLOSED and not way:
            return (self._closed(local, remote, shake, came.error, came.reset_reason),)
        if shake is not None and shake.answer in ("reset", "syn-ack without option"):
            if shake.answer == "reset":
                return (because.refused(local, remote, shake.reset_reason),)
            return way or (because.join_without_option(local, remote),)
        if way:
            return way
        watched = came is not None and came.remote_port in (0, probe.port)
        if shake is None and probe.packets is not None and watched:
            return (because.not_sent(local, remote),)
        if shake is not None and shake.answer == "syn-ack":
            if shake.reset_after:
                return (self._closed(local, remote, shake, 0, shake.reset_reason),)
            by_reverse_path = bool(probe.counters.get("TcpExtIPReversePathFilter"))
            return (because.answer_dropped(local, remote, by_reverse_path),)
        if remote in self.announced:
            return (because.announced_no_answer(local, remote),)
        plain = probe.plain.get(local, "")
        if plain == "connected":
            known_rules = self.facts.chains is not None
            return (because.join_dropped(local, remote, own_rules_known=known_rules),)
        return (because.no_answer(local, remote, plain),)

    def _closed(
        self,
        local: Address,
        remote: Address,
        shake: HandshakeSeen | None,
        error: int,
        reason: int | None,
    ) -> Obstacle:
        """Tell a subflow that the peer closed at once from one that ended in another way."""
        if shake is not None and shake.answer == "syn-ack without option":
            return because.join_without_option(local, remote)
        if shake is not None and shake.answer == "reset":
            return because.refused(local, remote, shake.reset_reason)
        if shake is not None and shake.reset_reason is not None:
            reason = shake.reset_reason
        if error:
            return because.closed(local, remote, os.strerror(error))
        return because.rejected(local, remote, reason)

    def _seen_before(self, row: Row) -> Row:
        """Add what a capture shows of such a join, where there was no probe."""
        shake = (
            self.seen.handshake(row.local, row.remote)
            if self.seen is not None and row.local is not None and row.remote is not None
            else None
        )
        if shake is None or row.local is None or row.remote is None:
            return row
        ends = row.local, row.remote
        if shake.answer == "reset":
            failed = (because.refused(*ends, shake.reset_reason),)
        elif shake.answer == "syn-ack without option":
            failed = (because.join_without_option(*ends),)
        elif shake.reset_after:
            failed = (because.rejected(*ends, shake.reset_reason),)
        elif not shake.answer:
            failed = (because.no_answer(*ends, ""),)
        else:
            return row
        known = tuple(o for o in row.obstacles if o.step in (Step.ROUTE, Step.SYN))
        return replace(row, outcome=Outcome.FAILED, obstacles=known or failed)

    # limits, and what goes without saying

    def _limited(self, rows: list[Row]) -> list[Row]:
        """Take off what the limits leave no room for."""
        limits = self.facts.limits
        if limits is None:
            return rows
        tried = (Outcome.JOINED, Outcome.FAILED)
        further = [row for row in rows if row.outcome is not Outcome.OPENS_FIRST]
        used = sum(row.outcome in tried for row in further)
        needed = len(further)
        found = []
        for row in rows:
            is_open = row.outcome in (Outcome.WILL_JOIN, Outcome.UNKNOWN)
            if row in further and row.outcome not in tried and self._is_limited(row):
                cut = because.too_few_subflows(limits.subflows, needed, self.most)
                if limits.subflows == 0:
                    kept = [cut, *row.obstacles]
                    row = replace(row, outcome=Outcome.WILL_NOT, obstacles=tuple(kept), note="")
                elif is_open and used >= limits.subflows:
                    row = replace(row, outcome=Outcome.WILL_NOT, obstacles=(cut,), note="")
                elif is_open:
                    used += 1
            found.append(row)
        return found

    def _is_limited(self, row: Row) -> bool:
        """Say whether the limit of subflows was not yet put in a row's way."""
        return all(o.code not in ("limits-subflows", "limits-cut") for o in row.obstacles)

    def _aside(self, row: Row, rows: Sequence[Row]) -> Row:
        """Let it be no fault that an address does not reach the peer's first, if it has joined
        an announced one.
        """
        elsewhere = any(
            each.local == row.local and each.outcome is Outcome.JOINED and each.remote != row.remote
            for each in rows
        )
        if not (elsewhere and row.remote in self.remotes and row.obstacles and row.local):
            return row
        if row.outcome is Outcome.WILL_NOT:
            why = f"{row.obstacles[0].why}; {row.local} has its subflow to an announced address"
            return replace(row, obstacles=(), note=why)
        endpoint = next((e for e in self._endpoints() if e.address == row.local), None)
        if endpoint is None:
            return row
        reason = because.first_address_out_of_reach(
            endpoint, self._device(endpoint), row.obstacles[0].why, has_laminar(self.facts.kernel)
        )
        return replace(row, obstacles=(reason,))

    def _expected(self) -> tuple[Address, ...]:
        """Return the addresses that are usable, and those that are meant to be."""
        found = {(each.interface, each.address.version): each.address for each in self.usable}
        for endpoint in self._endpoints():
            is_other = endpoint.address.version not in {r.version for r in self.remotes}
            name = self._interface_of(endpoint.address, endpoint)
            if not is_other and endpoint.address not in found.values():
                key = name or str(endpoint.address), endpoint.address.version
                found.setdefault(key, endpoint.address)
        for remote in self.announced:
            interface = self._interface_towards(remote)
            for each in self.facts.addresses if interface is not None else ():
                is_there = interface is not None and each.interface == interface.name
                if is_there and each.scope == "global" and each.address.version == remote.version:
                    found.setdefault((each.interface, remote.version), each.address)
        return tuple(found.values())

    def _without_covered(self, rows: list[Row]) -> list[Row]:
        """Leave out addresses without a subflow endpoint that are for an announced address."""
        towards_announced = {row.local for row in rows if row.remote in self.announced}
        return [
            row
            for row in rows
            if not (
                row.remote in self.remotes
                and row.local in towards_announced
                and any(o.code in _NOT_TRIED for o in row.obstacles)
            )
        ]

    # beside the rows

    def _serving(self) -> Iterator[Obstacle]:
        facts = self.facts
        if facts.limits is not None and facts.limits.subflows == 0:
            yield because.SERVING_NO_SUBFLOWS
        signals = [e for e in self._endpoints() if Flags.SIGNAL in e.flags]
        denies = facts.sysctls.get("net.mptcp.allow_join_initial_addr_port") == "0"
        if denies and not signals and facts.endpoints is not None:
            yield because.SERVING_NO_JOINS
        for endpoint in signals:
            if facts.assigned(endpoint.address) is None:
                yield because.serving_missing(endpoint)

    def _remarks(self) -> Iterator[Remark]:
        yield from self._programs()
        yield from self._connections()
        for service in self.facts.services:
            said = ", ".join(f"{key} = {value}" for key, value in service.settings.items())
            text = _SERVICES[service.name] + (f" (here: {said})" if said else "")
            yield Remark("service", f"{service.name} runs: {text}")
        rejected = self.facts.counters.get("MPTcpExtMPJoinRejected", 0)
        if rejected:
            yield Remark(
                "rejected",
                f"{rejected} joins of peers were rejected since this host started "
                "(MPJoinRejected): its limit of subflows",
            )

    def _programs(self) -> Iterator[Remark]:
        """Programs that talk to the peer, or listen, without MPTCP."""
        peers = set(self.remotes) - set(ANYWHERE)
        some = [s for s in self.facts.sockets if s.remote in peers] if peers else [
            s for s in self.facts.sockets if s.remote is None
        ]  # fmt: skip
        for kind, text in (("tcp", "plain TCP"), ("fallback", "MPTCP that fell back to TCP")):
            names = sorted({_program(each) for each in some if each.kind == kind})
            if not names:
                continue
            shown = ", ".join(names[:_SHOWN])
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            what = "connections to the peer" if peers else "listening sockets"
            how = f"; to make them MPTCP: {because.HOW_TO_SPEAK_MPTCP}" if kind == "tcp" else ""
            yield Remark(f"program-{kind}", f"{what} that are {text}: {shown}{more}{how}")

    def _connections(self) -> Iterator[Remark]:
        """The MPTCP connections of programs, with how many subflows each has."""
        some = [s for s in self.facts.sockets if s.kind == "mptcp" and s.remote is not None]
        if some:
            shown = [f"{_program(s)} of {s.remote}: {s.subflows}" for s in some[:_SHOWN]]
            more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
            text = f"MPTCP connections and their subflows: {', '.join(shown)}{more}"
            yield Remark("connections", text)


_SERVICES: Final = {
    "NetworkManager": "from 1.40 on it makes endpoints of its connections' addresses "
    "(connection.mptcp-flags), where the main table has a default route; rules and routes that "
    "should stay belong into its connections (ipv4.routing-rules, ipv4.routes with table=)",
    "systemd-networkd": "it removes rules and routes that are not in its .network files when it "
    "configures a link, unless networkd.conf says ManageForeignRoutingPolicyRules=no and "
    "ManageForeignRoutes=no; what should stay belongs there ([RoutingPolicyRule], [Route])",
    "mptcpd": "it may add and delete endpoints and subflows as its plugins decide",
    "dhclient": "a new lease may change the address; endpoints and rules stay as they were unless "
    "a hook (dhclient-exit-hooks.d) changes them",
    "dhcpcd": "a new lease may change the address; endpoints and rules stay as they were unless a "
    "hook (dhcpcd-hooks) changes them",
    "ConnMan": "it sets up addresses and routes by itself, and knows no endpoints",
}


def _program(each: ProgramSocket) -> str:
    where = f"port {each.local_port}" if each.remote is None else f"to port {each.remote_port}"
    name = f"{each.program} ({each.process})" if each.program else "a program"
    return f"{name} {where}"

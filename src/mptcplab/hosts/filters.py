"""What the rules of nf_tables make of a subflow's first packets, as far as they can be followed.

A rule's expressions are followed with the packet's fields in their registers.  What depends on
anything else (sets, marks ...) is not known, and so is what follows from it: only what is certain
is said.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mptcplab.hosts.facts import Address
from mptcplab.linux.kernel.netlink import attributes
from mptcplab.linux.kernel.nftables import Chain, Expression, Rule
from mptcplab.wire.mptcp import MP_CAPABLE, MPTCP_KIND

_FAMILIES: Final = {4: ("ip", "inet"), 6: ("ip6", "inet")}
_HOOKS: Final = {"out": ("output", "postrouting"), "in": ("prerouting", "input")}
_DEEPEST: Final = 16


class Fate(StrEnum):
    """What becomes of a packet."""

    PASSES = "passes"
    DROPPED = "dropped"
    STRIPPED = "stripped"
    """It goes on without its MPTCP option."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """A SYN with an MPTCP option that leaves ("out"), or a SYN/ACK that comes ("in").

    A port that is not known, as that of a connection to come, is None.
    """

    direction: str
    source: Address
    destination: Address
    source_port: int | None
    destination_port: int | None
    subtype: int
    interface: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet, and by which rule of which chain; the rule is None for a policy."""

    fate: Fate
    chain: Chain | None = None
    rule: Rule | None = None

    def __str__(self) -> str:
        if self.chain is None:
            return str(self.fate)
        place = f"{self.chain.family} {self.chain.table} {self.chain.name}"
        if self.rule is None:
            return f"the policy of chain {place}"
        return f"rule {self.rule.handle} of chain {place}"

    @property
    def removal(self) -> str:
        """The command that removes the rule, "" where there is none."""
        if self.chain is None or self.rule is None:
            return ""
        place = f"{self.chain.family} {self.chain.table} {self.chain.name}"
        return f"nft delete rule {place} handle {self.rule.handle}"


def fate(chains: Iterable[Chain], packet: FirstPacket) -> Verdict:
    """Return what the chains of all tables make of a packet, in the order of its way."""
    every = [c for c in chains if c.family in _FAMILIES[packet.source.version]]
    result = Verdict(Fate.PASSES)
    for hook in _HOOKS[packet.direction]:
        for chain in sorted((c for c in every if c.hook == hook), key=lambda c: c.priority):
            verdict = _Walk(every, packet).base(chain)
            if verdict.fate is Fate.DROPPED:
                return verdict
            if verdict.fate is not Fate.PASSES:
                result = verdict if result.fate is not Fate.STRIPPED else result
    return result


# include/uapi/linux/netfilter/nf_tables.h
_DROP, _ACCEPT, _JUMP, _GOTO = 0, 1, -3, -4
_META_IN, _META_OUT, _META_FAMILY, _META_L4 = 6, 7, 15, 16
_BASE_NETWORK, _BASE_TRANSPORT = 1, 2
_TCP_OPTION: Final = 1  # NFT_EXTHDR_OP_TCPOPT
_IF_PRESENT: Final = 1  # NFT_EXTHDR_F_PRESENT
_CT_STATE: Final = 0
_CT_ESTABLISHED, _CT_NEW = 2, 8  # include/uapi/linux/netfilter/nf_conntrack_common.h
_EQUAL, _NOT_EQUAL = 0, 1
_NEUTRAL: Final = frozenset({"counter", "log", "notrack", "last"})
_IPPROTO_TCP: Final = 6
_INTERFACE_NAME_BYTES: Final = 16
_XT_TCP_BYTES: Final = 12  # struct xt_tcp, linux/netfilter/xt_tcpudp.h
_SYN, _SYN_ACK = 0x02, 0x12

Registers = dict[int, bytes | None]
"""What registers hold, by number; None for what is not known."""


class _Walk:
    """Follows one packet through the chains of a table."""

    def __init__(self, chains: list[Chain], packet: FirstPacket) -> None:
        self._chains = chains
        self._packet = packet
        self._stripped: Verdict | None = None

    def base(self, chain: Chain) -> Verdict:
        """Return what becomes of the packet at a hook."""
        verdict = self._through(chain, 0)
        if verdict is None:
            passes = chain.accepts
            verdict = Verdict(Fate.PASSES) if passes else Verdict(Fate.DROPPED, chain)
        return self._stripped if self._stripped and verdict.fate is Fate.PASSES else verdict

    def _through(self, chain: Chain, depth: int) -> Verdict | None:
        """Return a chain's verdict, None where it comes to none."""
        unsure: Verdict | None = None
        for rule in chain.rules:
            verdict = self._rule(chain, rule, depth)
            if verdict is None:
                continue
            if verdict.fate is Fate.UNKNOWN:
                unsure = unsure or verdict
                continue
            return unsure or verdict
        return unsure

    def _rule(self, chain: Chain, rule: Rule, depth: int) -> Verdict | None:
        registers: dict[int, bytes | None] = {}
        certain = True
        for expression in rule.expressions:
            if expression.name in _NEUTRAL:
                continue
            if _strips_mptcp(expression):
                self._stripped = Verdict(Fate.STRIPPED if certain else Fate.UNKNOWN, chain, rule)
                continue
            if expression.name == "reject" or _is_target(expression, "REJECT"):
                return Verdict(Fate.DROPPED if certain else Fate.UNKNOWN, chain, rule)
            if expression.name == "immediate":
                decided = _decision(expression)
                if decided is not None:
                    return self._decided(decided, certain, (chain, rule), depth)
                continue
            holds = _step(expression, registers, self._packet)
            if holds is False:
                return None
            if holds is None:
                certain = False
        return None

    def _decided(
        self, decided: tuple[int, str], certain: bool, place: tuple[Chain, Rule], depth: int
    ) -> Verdict | None:
        code, name = decided
        if code in (_JUMP, _GOTO):
            target = [
                each
                for each in self._chains
                if (each.family, each.table, each.name) == (place[0].family, place[0].table, name)
            ]
            inner = self._through(target[0], depth + 1) if target and depth < _DEEPEST else None
            if inner is None or certain:
                return inner
            return Verdict(Fate.UNKNOWN, inner.chain, inner.rule)
        if code in (_DROP, _ACCEPT):
            known = Fate.DROPPED if code == _DROP else Fate.PASSES
            return Verdict(known if certain else Fate.UNKNOWN, *place)
        return None


def _step(expression: Expression, registers: Registers, packet: FirstPacket) -> bool | None:
    """Take one expression: True where the rule goes on, False where it does not apply, and None
    where that is not known.
    """
    values = expression.values
    match expression.name:
        case "meta" | "ct" | "payload" | "exthdr" if 1 in values:
            load = {"meta": _meta, "ct": _conntrack, "payload": _payload, "exthdr": _option}
            loaded = load[expression.name](values, packet)
            registers[_register(values)] = loaded
            is_absent_option = loaded == b"" and expression.name == "exthdr"
            return not is_absent_option
        case "payload" | "meta" | "ct" | "exthdr":
            return True  # it writes into the packet, or a mark of it
        case "bitwise":
            registers[_register(values, 2)] = _masked(registers.get(_register(values)), values)
            return True
        case "cmp":
            return _compared(registers.get(_register(values)), values)
        case "range":
            return _in_range(registers.get(_register(values)), values)
        case "match" if _name(values) == "tcp":
            return _xt_tcp(values, packet)
        case "match" if _name(values) == "comment":
            return True
    return None


def _register(values: dict[int, bytes], attribute: int = 1) -> int:
    """Return a register by its number in bytes of four: 1 to 4 are the older, longer names."""
    number = _number(values.get(attribute, b""))
    return (number - 1) * 4 if number < 8 else number - 8


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _name(values: dict[int, bytes]) -> str:
    return values.get(1, b"").rstrip(b"\0").decode(errors="replace")


def _meta(values: dict[int, bytes], packet: FirstPacket) -> bytes | None:
    key = _number(values.get(2, b""))
    if key == _META_L4:
        return bytes((_IPPROTO_TCP,))
    if key == _META_FAMILY:
        return bytes((2 if packet.source.version == 4 else 10,))
    if key == (_META_OUT if packet.direction == "out" else _META_IN):
        return packet.interface.encode().ljust(_INTERFACE_NAME_BYTES, b"\0")
    return None


def _conntrack(values: dict[int, bytes], packet: FirstPacket) -> bytes | None:
    """Return the state that a SYN has, and its SYN/ACK: new, and established."""
    if _number(values.get(2, b"")) != _CT_STATE:
        return None
    return struct.pack("=I", _CT_NEW if packet.direction == "out" else _CT_ESTABLISHED)


def _payload(values: dict[int, bytes], packet: FirstPacket) -> bytes | None:
    known: dict[int, int] = {}
    base = _number(values.get(2, b""))
    if base == _BASE_TRANSPORT:
        for start, port in ((0, packet.source_port), (2, packet.destination_port)):
            if port is not None:
                known |= dict(enumerate(struct.pack("!H", port), start))
        known[13] = _SYN if packet.direction == "out" else _SYN_ACK
    elif base == _BASE_NETWORK:
        protocol, start = (9, 12) if packet.source.version == 4 else (6, 8)
        known = dict(enumerate(packet.source.packed + packet.destination.packed, start))
        known[protocol] = _IPPROTO_TCP
    offset, length = _number(values.get(3, b"")), _number(values.get(4, b""))
    wanted = range(offset, offset + length)
    return bytes(known[at] for at in wanted) if all(at in known for at in wanted) else None


def _option(values: dict[int, bytes], packet: FirstPacket) -> bytes | None:
    """Return part of the MPTCP option, or whether it is there; b"" for what is not there."""
    if _number(values.get(6, b"")) != _TCP_OPTION:
        return None
    if _number(values.get(2, b"")) != MPTCP_KIND:
        return None
    if _number(values.get(5, b"")) & _IF_PRESENT:
        return b"\1"
    version = 1 if packet.subtype == MP_CAPABLE else 0
    lengths = (4, 12) if packet.subtype == MP_CAPABLE else (12, 16)
    known = bytes((MPTCP_KIND, lengths[packet.direction == "in"], packet.subtype << 4 | version))
    offset, length = _number(values.get(3, b"")), _number(values.get(4, b""))
    return known[offset : offset + length] if offset + length <= len(known) else None


def _masked(value: bytes | None, values: dict[int, bytes]) -> bytes | None:
    if value is None or _number(values.get(6, b"")) != 0:  # shifts are not followed
        return None
    mask, toggled = (_data(values, attribute) for attribute in (4, 5))
    if not len(value) == len(mask) == len(toggled):
        return None
    return bytes(v & m ^ x for v, m, x in zip(value, mask, toggled, strict=True))


def _data(values: dict[int, bytes], attribute: int) -> bytes:
    return attributes(values.get(attribute, b"")).get(1, b"")


def _compared(value: bytes | None, values: dict[int, bytes]) -> bool | None:
    if value is None:
        return None
    wanted = _data(values, 3)
    equal = value[: len(wanted)] == wanted  # shorter for names that end in a wildcard
    operator = _number(values.get(2, b""))
    return equal if operator == _EQUAL else not equal if operator == _NOT_EQUAL else None


def _in_range(value: bytes | None, values: dict[int, bytes]) -> bool | None:
    if value is None:
        return None
    inside = _data(values, 3) <= value <= _data(values, 4)
    return inside if _number(values.get(2, b"")) == _EQUAL else not inside


def _xt_tcp(values: dict[int, bytes], packet: FirstPacket) -> bool | None:
    """Follow iptables' ``-m tcp`` (struct xt_tcp): ports, an option, flags, perhaps inverted."""
    info = values.get(3, b"")
    if len(info) < _XT_TCP_BYTES:
        return None
    sources, destinations, option, mask, wanted, inverted = (
        info[0:4],
        info[4:8],
        *info[8:12],
    )
    flags = _SYN if packet.direction == "out" else _SYN_ACK
    holds = [
        _in_ports(packet.source_port, sources, bool(inverted & 1)),
        _in_ports(packet.destination_port, destinations, bool(inverted & 2)),
        (flags & mask == wanted) is not bool(inverted & 4),
    ]
    if option:
        holds.append(not inverted & 8 if option == MPTCP_KIND else None)
    return False if False in holds else None if None in holds else True


def _in_ports(port: int | None, bounds: bytes, is_inverted: bool) -> bool | None:
    """Say whether a port is within bounds, None where it is not known and they are not all."""
    first, last = struct.unpack("=HH", bounds)
    if (first, last) == (0, 0xFFFF):
        return not is_inverted
    return None if port is None else (first <= port <= last) is not is_inverted


def _is_target(expression: Expression, name: str) -> bool:
    return expression.name == "target" and _name(expression.values) == name


def _strips_mptcp(expression: Expression) -> bool:
    """Say whether an expression removes MPTCP's option from a packet."""
    values = expression.values
    if _is_target(expression, "TCPOPTSTRIP"):
        bitmap = values.get(3, b"")
        return len(bitmap) >= 4 and bool(struct.unpack_from("=I", bitmap)[0] >> MPTCP_KIND & 1)
    is_strip = expression.name == "exthdr" and 1 not in values and 7 not in values
    return (
        is_strip
        and _number(values.get(6, b"")) == _TCP_OPTION
        and _number(values.get(2, b"")) == MPTCP_KIND
    )


def _decision(expression: Expression) -> tuple[int, str] | None:
    """Return the verdict in an "immediate" and the chain it names; None for one that loads data."""
    verdict = attributes(attributes(expression.values.get(2, b"")).get(2, b""))
    if 1 not in verdict:
        return None
    (code,) = struct.unpack("!i", verdict[1])
    return code, verdict.get(2, b"").rstrip(b"\0").decode(errors="replace")

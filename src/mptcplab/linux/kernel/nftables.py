"""The rules of nf_tables, read by netlink: chains, and each rule as the expressions it is made of.

Layouts and numbers: include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h.  Reading takes
CAP_NET_ADMIN.  Rules of ``iptables`` are here too where it is the one that uses nf_tables.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from mptcplab.linux.kernel.netlink import (
    NLM_F_DUMP,
    NetlinkSocket,
    Request,
    attribute_list,
    attributes,
)

NETLINK_NETFILTER: Final = 12
_SUBSYSTEM: Final = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETCHAIN: Final = 4
_GETRULE: Final = 7
_NFGENMSG: Final = struct.Struct("=BBH")

_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY = 1, 3, 4, 5
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 1, 2, 3, 4
_LIST_ELEMENT: Final = 1
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2

FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
HOOKS: Final = {0: "prerouting", 1: "input", 2: "forward", 3: "output", 4: "postrouting"}
_ACCEPT: Final = 1


@dataclass(frozen=True, slots=True)
class Expression:
    """One step of a rule: its name ("cmp", "exthdr" ...) and its attributes by number."""

    name: str
    values: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; ``handle`` is what ``nft delete rule`` takes."""

    handle: int
    expressions: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain with its rules in order; ``hook`` is empty where only jumps lead to it."""

    family: str
    table: str
    name: str
    hook: str
    priority: int
    accepts: bool
    """What becomes of packets that no rule decides on: a base chain's policy."""
    rules: tuple[Rule, ...]


def chains(channel: NetlinkSocket) -> list[Chain]:
    """Return the chains of the socket's namespace, of every family; NetlinkError where refused."""
    by_chain: dict[tuple[int, str, str], list[Rule]] = {}
    for family, values in _dump(channel, _GETRULE, "list filter rules"):
        key = family, _text(values[_RULE_TABLE]), _text(values[_RULE_CHAIN])
        by_chain.setdefault(key, []).append(_rule(values))
    found = []
    for family, values in _dump(channel, _GETCHAIN, "list filter chains"):
        table, name = _text(values[_CHAIN_TABLE]), _text(values[_CHAIN_NAME])
        hook = attributes(values.get(_CHAIN_HOOK, b""))
        number = _big_endian(hook[_HOOK_NUMBER]) if _HOOK_NUMBER in hook else None
        priority = hook.get(_HOOK_PRIORITY, bytes(4))
        found.append(
            Chain(
                FAMILIES.get(family, str(family)),
                table,
                name,
                "" if number is None else HOOKS.get(number, str(number)),
                struct.unpack("!i", priority)[0],
                _big_endian(values.get(_CHAIN_POLICY, b"\1")) == _ACCEPT,
                tuple(by_chain.get((family, table, name), ())),
            )
        )
    return found


def _dump(channel: NetlinkSocket, kind: int, what: str) -> list[tuple[int, dict[int, bytes]]]:
    request = Request(_SUBSYSTEM | kind, NLM_F_DUMP, _NFGENMSG.pack(0, 0, 0), what)
    return [
        (message.body[0], attributes(message.body[_NFGENMSG.size :]))
        for message in channel.query(request)
    ]


def _rule(values: dict[int, bytes]) -> Rule:
    expressions = []
    for kind, element in attribute_list(values.get(_RULE_EXPRESSIONS, b"")):
        if kind == _LIST_ELEMENT:
            parts = attributes(element)
            data = attributes(parts.get(_EXPRESSION_DATA, b""))
            expressions.append(Expression(_text(parts[_EXPRESSION_NAME]), data))
    return Rule(_big_endian(values[_RULE_HANDLE]), tuple(expressions))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _big_endian(value: bytes) -> int:
    return int.from_bytes(value, "big")

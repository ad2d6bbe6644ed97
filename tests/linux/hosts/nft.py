"""Rules of nf_tables for the labs, set by netlink: the program ``nft`` is not everywhere."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Final

from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLMSG_ERROR,
    Request,
    attribute,
    error_of,
    messages,
    nested,
    string,
)
from mptcplab.linux.kernel.netlink import NetlinkSocket as Channel
from mptcplab.linux.kernel.nftables import NETLINK_NETFILTER

_SUBSYSTEM: Final = 10 << 8
_NEWTABLE, _NEWCHAIN, _NEWRULE, _DELRULE = 0, 3, 6, 8
_BEGIN, _END = 0x10, 0x11
_INET: Final = 1
_APPEND: Final = 0x800
HOOKS: Final = {"prerouting": 0, "input": 1, "forward": 2, "output": 3}
MPTCP: Final = 30
CAPABLE, JOIN = 0x00, 0x10
_REGISTER: Final = 1

Expression = tuple[str, bytes]


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))


def option(subtype: int) -> list[Expression]:
    """``tcp option mptcp subtype ...``: load, mask and compare."""
    load = attribute(2, bytes((MPTCP,))) + _number(1, _REGISTER) + _number(3, 2)
    load += _number(4, 1) + _number(6, 1)
    mask = _number(1, _REGISTER) + _number(2, _REGISTER) + _number(3, 1)
    mask += nested(4, attribute(1, b"\xf0"), flag=True) + nested(5, attribute(1, b"\0"), flag=True)
    return [("exthdr", load), ("bitwise", mask), *_equal(bytes((subtype,)))]


def from_interface(name: str) -> list[Expression]:
    """``iifname NAME``."""
    load = _number(1, _REGISTER) + _number(2, 6)
    return [("meta", load), *_equal(name.encode().ljust(16, b"\0"))]


def port(number: int) -> list[Expression]:
    """``meta l4proto tcp tcp dport PORT``."""
    protocol = _number(1, _REGISTER) + _number(2, 16)
    load = _number(1, _REGISTER) + _number(2, 2) + _number(3, 2) + _number(4, 2)
    return [
        ("meta", protocol),
        *_equal(bytes((6,))),
        ("payload", load),
        *_equal(struct.pack("!H", number)),
    ]


def _equal(value: bytes) -> list[Expression]:
    body = _number(1, _REGISTER) + _number(2, 0) + nested(3, attribute(1, value), flag=True)
    return [("cmp", body)]


def drop() -> list[Expression]:
    """``drop``."""
    verdict = nested(2, nested(2, _number(1, 0), flag=True), flag=True)
    return [("immediate", _number(1, 0) + verdict)]


def strip() -> list[Expression]:
    """``reset tcp option mptcp``."""
    return [("exthdr", attribute(2, bytes((MPTCP,))) + _number(6, 1))]


def add_rule(space: NetNamespace, hook: str, *parts: Sequence[Expression]) -> None:
    """Add a rule to the chain of a hook, in a table "filter" that is made where it is not there."""
    expressions = [
        nested(1, string(1, name), nested(2, body, flag=True), flag=True)
        for part in parts
        for name, body in part
    ]
    chain = string(1, "filter") + string(3, hook)
    chain += nested(4, _number(1, HOOKS[hook]), _number(2, 0), flag=True) + string(7, "filter")
    rule = string(1, "filter") + string(2, hook) + nested(4, *expressions, flag=True)
    _send(
        space,
        [
            _message(_NEWTABLE, NLM_F_CREATE, string(1, "filter")),
            _message(_NEWCHAIN, NLM_F_CREATE, chain),
            _message(_NEWRULE, NLM_F_CREATE | _APPEND, rule),
        ],
    )


def run(space: NetNamespace, command: str) -> None:
    """Carry out a command of nft: ``nft delete rule inet TABLE CHAIN handle N``."""
    found = re.fullmatch(r"nft delete rule inet (\S+) (\S+) handle (\d+)", command)
    assert found is not None, command
    handle = attribute(3, struct.pack("!Q", int(found[3])))
    body = string(1, found[1]) + string(2, found[2]) + handle
    _send(space, [_message(_DELRULE, 0, body)])


def _message(kind: int, flags: int, body: bytes) -> Request:
    header = struct.pack("=BBH", _INET, 0, 0)
    return Request(_SUBSYSTEM | kind, flags | NLM_F_ACK, header + body, f"nftables {kind}")


def _send(space: NetNamespace, wanted: list[Request]) -> None:
    bound = struct.pack("!BBH", 0, 0, 10)
    batch = [Request(_BEGIN, 0, bound, ""), *wanted, Request(_END, 0, bound, "")]
    with space.entered():
        channel = Channel(NETLINK_NETFILTER)
    with channel:
        data = b"".join(each.encode(number) for number, each in enumerate(batch, 1))
        channel._socket.send(data)
        left = len(wanted)
        while left:
            for message in messages(channel._receive()):
                if message.kind == NLMSG_ERROR:
                    failure = error_of(message, batch[message.sequence - 1].what)
                    if failure is not None:
                        raise failure
                    left -= 1

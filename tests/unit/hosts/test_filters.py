"""Rules of nf_tables, followed with the first packets of a subflow."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from mptcplab.hosts.filters import Fate, FirstPacket, fate
from mptcplab.linux.kernel.netlink import attribute
from mptcplab.linux.kernel.nftables import Chain, Expression, Rule
from mptcplab.wire.mptcp import MP_CAPABLE, MP_JOIN

HERE, THERE = ip_address("10.0.2.1"), ip_address("10.0.8.2")


def number(value: int) -> bytes:
    """Return a number as nf_tables writes it."""
    return struct.pack("!I", value)


def data(value: bytes) -> bytes:
    """Return a nested NFTA_DATA_VALUE."""
    return attribute(1, value)


def load(name: str, **values: bytes) -> Expression:
    """Return an expression by its attributes' numbers: ``a2`` is attribute 2."""
    return Expression(name, {int(key[1:]): value for key, value in values.items()})


def equal(value: bytes, operator: int = 0) -> Expression:
    """Return a comparison of register 1."""
    return load("cmp", a1=number(1), a2=number(operator), a3=data(value))


OPTION = load("exthdr", a1=number(1), a2=b"\x1e", a3=number(2), a4=number(1), a6=number(1))
PRESENT = load(
    "exthdr", a1=number(1), a2=b"\x1e", a3=number(0), a4=number(1), a5=number(1), a6=number(1)
)
MASK = load("bitwise", a1=number(1), a2=number(1), a3=number(1), a4=data(b"\xf0"), a5=data(b"\0"))
STRIP = load("exthdr", a2=b"\x1e", a6=number(1))
DESTINATION_PORT = load("payload", a1=number(1), a2=number(2), a3=number(2), a4=number(2))
SOURCE = load("payload", a1=number(1), a2=number(1), a3=number(12), a4=number(4))
OUT_NAME = load("meta", a1=number(1), a2=number(7))
CT_STATE = load("ct", a1=number(1), a2=number(0))
LOOKUP = load("lookup", a1=b"set\0", a2=number(1))
COUNTER = load("counter")
SUBTYPE_JOIN = [OPTION, MASK, equal(b"\x10")]
NO_BITS = bytes(4)


def verdict(code: int, chain: str = "") -> Expression:
    """Return an immediate verdict."""
    inner = attribute(1, struct.pack("!i", code))
    if chain:
        inner += attribute(2, chain.encode() + b"\0")
    return load("immediate", a1=number(0), a2=attribute(2, inner))


DROP, ACCEPT = verdict(0), verdict(1)


def chain(hook: str, *rules: list[Expression], accepts: bool = True, name: str = "") -> Chain:
    """Return a chain of a table inet filter."""
    made = tuple(Rule(index, tuple(rule)) for index, rule in enumerate(rules, 2))
    return Chain("inet", "filter", name or hook, hook, 0, accepts, made)


def syn(subtype: int = MP_JOIN, port: int | None = 5201) -> FirstPacket:
    """Return a SYN that leaves by eth2."""
    return FirstPacket("out", HERE, THERE, None, port, subtype, "eth2")


def syn_ack(subtype: int = MP_JOIN) -> FirstPacket:
    """Return its SYN/ACK."""
    return FirstPacket("in", THERE, HERE, 5201, None, subtype, "eth2")


def test_a_rule_on_a_subtype_drops_that_subtype_alone() -> None:
    rules = [chain("output", [*SUBTYPE_JOIN, COUNTER, DROP])]
    verdict = fate(rules, syn())
    assert verdict.fate is Fate.DROPPED
    assert verdict.removal == "nft delete rule inet filter output handle 2"
    assert fate(rules, syn(MP_CAPABLE)).fate is Fate.PASSES
    assert fate(rules, syn_ack()).fate is Fate.PASSES


@pytest.mark.parametrize(
    "rule",
    [
        [PRESENT, equal(b"\x01"), DROP],
        [DESTINATION_PORT, equal(struct.pack("!H", 5201)), DROP],
        [SOURCE, equal(HERE.packed), DROP],
        [OUT_NAME, equal(b"eth2".ljust(16, b"\0")), DROP],
        [OUT_NAME, equal(b"eth"), DROP],
        [OUT_NAME, equal(b"eth1".ljust(16, b"\0"), 1), DROP],
        [load("reject")],
    ],
)
def test_what_holds_for_the_packet_drops_it(rule: list[Expression]) -> None:
    assert fate([chain("output", rule)], syn()).fate is Fate.DROPPED


@pytest.mark.parametrize(
    "rule",
    [
        [DESTINATION_PORT, equal(struct.pack("!H", 80)), DROP],
        [SOURCE, equal(THERE.packed), DROP],
        [OUT_NAME, equal(b"eth1".ljust(16, b"\0")), DROP],
    ],
)
def test_what_does_not_hold_lets_it_pass(rule: list[Expression]) -> None:
    assert fate([chain("output", rule)], syn()).fate is Fate.PASSES


def test_an_option_may_be_taken_away() -> None:
    assert fate([chain("output", [STRIP])], syn()).fate is Fate.STRIPPED
    target = load("target", a1=b"TCPOPTSTRIP\0", a3=struct.pack("=8I", 1 << 30, *[0] * 7))
    assert fate([chain("output", [target])], syn()).fate is Fate.STRIPPED


def test_iptables_match_on_an_option() -> None:
    info = struct.pack("=HHHHBBBB", 0, 65535, 0, 65535, 30, 0, 0, 0)
    match = load("match", a1=b"tcp\0", a3=info)
    assert fate([chain("output", [match, DROP])], syn()).fate is Fate.DROPPED
    to_80 = struct.pack("=HHHHBBBB", 0, 65535, 80, 80, 0, 0, 0, 0)
    assert fate(
        [chain("output", [load("match", a1=b"tcp\0", a3=to_80), DROP])], syn()
    ).fate is Fate.PASSES  # fmt: skip


def test_a_policy_drops_what_no_rule_accepts() -> None:
    established = load(
        "bitwise", a1=number(1), a2=number(1), a3=number(4),
        a4=data(struct.pack("=I", 6)), a5=data(NO_BITS),
    )  # fmt: skip
    usual = [CT_STATE, established, equal(NO_BITS, 1), ACCEPT]
    strict = [chain("input", usual, accepts=False)]
    assert fate(strict, syn_ack()).fate is Fate.PASSES
    closed = [chain("output", usual, accepts=False)]
    verdict = fate(closed, syn())
    assert verdict.fate is Fate.DROPPED
    assert str(verdict) == "the policy of chain inet filter output"
    assert verdict.removal == ""


def test_what_cannot_be_followed_is_not_known() -> None:
    unsure = [chain("output", [LOOKUP, DROP])]
    assert fate(unsure, syn()).fate is Fate.UNKNOWN
    accepted_perhaps = [chain("output", [LOOKUP, ACCEPT], accepts=False)]
    assert fate(accepted_perhaps, syn()).fate is Fate.UNKNOWN
    other_option = load(
        "exthdr", a1=number(1), a2=b"\x02", a3=number(0), a4=number(1), a6=number(1)
    )
    assert fate([chain("output", [other_option, equal(b"\1"), DROP])], syn()).fate is Fate.UNKNOWN


def test_a_port_that_is_not_known_decides_nothing() -> None:
    rule = [DESTINATION_PORT, equal(struct.pack("!H", 80)), ACCEPT]
    strict = [chain("output", rule, accepts=False)]
    assert fate(strict, syn(port=443)).fate is Fate.DROPPED
    assert fate(strict, syn(port=80)).fate is Fate.PASSES
    assert fate(strict, syn(port=None)).fate is Fate.UNKNOWN
    to_80 = struct.pack("=HHHHBBBB", 0, 65535, 80, 80, 0, 0, 0, 0)
    match = load("match", a1=b"tcp\0", a3=to_80)
    assert fate([chain("output", [match, DROP])], syn(port=None)).fate is Fate.UNKNOWN
    assert fate([chain("output", [match, DROP])], syn(port=80)).fate is Fate.DROPPED


def test_jumps_are_followed_and_circles_end() -> None:
    inner = chain("", [*SUBTYPE_JOIN, DROP], name="inner")
    outer = chain("output", [verdict(-3, "inner")])
    found = fate([outer, inner], syn())
    assert found.fate is Fate.DROPPED
    assert found.removal == "nft delete rule inet filter inner handle 2"
    circle = chain("", [verdict(-3, "circle")], name="circle")
    assert fate([chain("output", [verdict(-3, "circle")]), circle], syn()).fate is Fate.PASSES


def test_rules_of_the_other_ip_version_do_not_count() -> None:
    rules = Chain("ip6", "filter", "output", "output", 0, False, ())
    assert fate([rules], syn()).fate is Fate.PASSES

"""What differs between two readings of a namespace, and is nobody's but a stranger's doing."""

from __future__ import annotations

from typing import Any

from mptcplab.linux.measure.readback import Settings, differences

BEFORE = Settings(
    frozenset({("eth0", "with a carrier"), ("eth1", "with a carrier")}),
    {
        "MTU": frozenset({("eth0", "1500"), ("eth1", "1500")}),
        "address": frozenset({("eth0", "10.0.0.1/24"), ("eth1", "10.0.1.1/24")}),
        "route": frozenset({("eth0", "default in table 1"), ("eth1", "default in table 2")}),
        "MPTCP endpoint": frozenset({("eth1", "10.0.1.1 signal")}),
    },
)


def after(up: set[tuple[str, str]] | None = None, **parts: set[tuple[str, str]]) -> Settings:
    names = {kind.replace("_", " "): frozenset(part) for kind, part in parts.items()}
    return Settings(BEFORE.up if up is None else frozenset(up), {**BEFORE.parts, **names})


def found(settings: Settings, **options: Any) -> list[str]:
    return differences("a", BEFORE, settings, **options)


def test_nothing_differs() -> None:
    assert found(BEFORE) == []


def test_what_is_gone_and_what_is_new_are_named() -> None:
    moved = after(address={("eth0", "10.0.0.1/24"), ("eth1", "10.0.1.9/24")})
    assert found(moved) == [
        "a: 1 address gone since the run began, which nobody asked for: 10.0.1.1/24 on eth1",
        "a: 1 address new since the run began, which nobody asked for: 10.0.1.9/24 on eth1",
    ]
    assert found(after(MTU={("eth0", "1500"), ("eth1", "900")})) == [
        "a: the MTU of eth1 is 900, was 1500 when the run began"
    ]


def test_of_an_interface_that_fell_only_that_is_said() -> None:
    fallen = after({("eth0", "with a carrier")}, route={("eth0", "default in table 1")})
    assert found(fallen) == ["a: eth1 is down or gone, which nobody asked for"]
    pulled = after({("eth0", "with a carrier"), ("eth1", "without a carrier")})
    assert found(pulled) == ["a: eth1 has lost its carrier, which nobody asked for"]


def test_what_the_timeline_has_down_is_not_missed() -> None:
    fallen = after(
        {("eth0", "with a carrier")}, route={("eth0", "default in table 1")}, MPTCP_endpoint=set()
    )
    assert found(fallen, down={"eth1"}) == []


def test_endpoints_follow_the_links_that_the_timeline_touches() -> None:
    assert found(after(MPTCP_endpoint=set()), touched={"eth1"}) == []
    assert found(after(route=set()), touched={"eth1"}), "but routes are put back"


def test_what_the_timeline_shapes_is_judged_elsewhere() -> None:
    before = Settings(frozenset(), {"qdisc": frozenset({("w0a", "tbf one")})})
    now = Settings(frozenset(), {"qdisc": frozenset({("w0a", "tbf other")})})
    assert differences("the wire", before, now, free=("qdisc",)) == []
    assert differences("the wire", before, now) == [
        "the wire: the qdisc of w0a is tbf other, was tbf one when the run began"
    ]

"""From made-up facts to judgements: no kernel, no root."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from tests.unit.hosts.made_up import (
    MOBILE,
    PEER,
    SECOND,
    SUBFLOW,
    WIFI,
    laptop,
    lookups,
    probed,
)

from mptcplab.hosts.facts import (
    Came,
    Facts,
    HandshakeSeen,
    HostAddress,
    PacketsSeen,
    Probe,
    ProgramSocket,
    Service,
    SubflowSeen,
)
from mptcplab.hosts.judge import judge
from mptcplab.hosts.judgement import Judgement, Outcome
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits


def codes(judgement: Judgement) -> list[str]:
    """Return the codes of all that is in the way."""
    rows = [obstacle for row in judgement.rows for obstacle in row.obstacles]
    return [obstacle.code for obstacle in (*judgement.general, *rows)]


def test_a_healthy_host_is_said_to_be_before_and_after_a_probe() -> None:
    before = judge(laptop(), [PEER])
    assert [row.outcome for row in before.rows] == [Outcome.OPENS_FIRST, Outcome.WILL_JOIN]
    assert before.healthy
    after = judge(laptop(), [PEER], probed(SubflowSeen(MOBILE, PEER, Came.ESTABLISHED)))
    assert [row.outcome for row in after.rows] == [Outcome.OPENS_FIRST, Outcome.JOINED]
    assert after.healthy
    assert after.subflows == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sysctls": {}}, "no-mptcp"),
        ({"sysctls": {"net.mptcp.enabled": "0"}}, "mptcp-disabled"),
        (
            {"sysctls": {"net.mptcp.enabled": "1", "net.mptcp.pm_type": "1"}},
            "userspace-path-manager",
        ),
        ({"limits": Limits(0, 0)}, "limits-subflows"),
        ({"endpoints": ()}, "no-endpoint"),
        ({"endpoints": (replace(SUBFLOW, flags=Flags.SIGNAL),)}, "endpoint-signal"),
        ({"endpoints": (replace(SUBFLOW, flags=Flags.BACKUP),)}, "endpoint-without-subflow"),
        ({"endpoints": (replace(SUBFLOW, interface_index=0),),
          "lookups": lookups(PEER, rule=False)}, "route-other-interface"),
    ],
)  # fmt: skip
def test_what_is_read_says_what_is_in_the_way(changes: dict[str, Any], code: str) -> None:
    judgement = judge(laptop(**changes), [PEER])
    assert codes(judgement) == [code]
    assert not judgement.enough


def test_a_daemon_that_runs_is_left_to_its_own_judgement() -> None:
    sysctls = {"net.mptcp.enabled": "1", "net.mptcp.path_manager": "userspace"}
    judgement = judge(laptop(sysctls=sysctls, services=(Service("mptcpd"),)), [PEER])
    assert codes(judgement) == []
    assert "mptcpd runs" in judgement.remarks[0].text


def interface(facts: Facts, name: str, **changes: Any) -> Facts:
    """Return the facts with one interface changed."""
    some = tuple(replace(i, **changes) if i.name == name else i for i in facts.interfaces)
    return replace(facts, interfaces=some)


def test_interfaces_and_addresses_that_cannot_be_used() -> None:
    assert codes(judge(interface(laptop(), "mobile", up=False), [PEER])) == ["interface-down"]
    assert codes(judge(interface(laptop(), "mobile", carrier=False), [PEER])) == ["no-carrier"]
    tentative = [replace(each, tentative=each.address == MOBILE) for each in laptop().addresses]
    assert codes(judge(laptop(addresses=tuple(tentative)), [PEER])) == ["address-tentative"]


def test_a_changed_address_is_replaced_by_the_interface_s_own() -> None:
    gone = Endpoint(ip_address("10.0.2.77"), Flags.SUBFLOW, 4, interface_index=3)
    judgement = judge(laptop(endpoints=(gone,)), [PEER])
    assert codes(judgement) == ["endpoint-address-missing"]
    assert [fix.command for fix in judgement.fixes] == [
        "ip mptcp endpoint delete id 4",
        "ip mptcp endpoint add 10.0.2.1 dev mobile subflow",
    ]


def test_strict_reverse_path_filtering_is_named_where_ways_differ_and_nowhere_else() -> None:
    strict = interface(laptop(), "mobile", rp_filter=1)
    assert codes(judge(strict, [PEER])) == []
    asymmetric = replace(strict, lookups=lookups(PEER, rule=False), rules=())
    judgement = judge(asymmetric, [PEER])
    assert codes(judgement) == ["rp-filter"]
    assert [fix.command for fix in judgement.fixes] == [
        "ip -4 rule add from 10.0.2.1 table 2 priority 1000"
    ]


def test_a_gateway_that_is_not_known_is_left_to_fill_in() -> None:
    connected = tuple(r for r in laptop().routes if r.gateway is None or r.interface == "wifi")
    unbound = (replace(SUBFLOW, interface_index=0),)
    facts = laptop(routes=connected, lookups=lookups(PEER, rule=False), endpoints=unbound)
    judgement = judge(facts, [PEER], probed(SubflowSeen(MOBILE, PEER, Came.UNANSWERED)))
    command = judgement.fixes[0]
    assert command.command == "ip -4 route add default via GATEWAY dev mobile table 1003"
    assert not command.complete


def test_limits_cut_the_list_in_the_order_of_endpoints() -> None:
    more = [Endpoint(ip_address(f"10.0.2.{n}"), Flags.SUBFLOW, n, interface_index=3)
            for n in (2, 3)]  # fmt: skip
    addresses = [HostAddress(each.address, 24, "mobile") for each in more]
    ways = [
        replace(each, source=e.address)
        for e in more
        for each in lookups(PEER)
        if each.source == MOBILE
    ]
    facts = laptop(
        endpoints=(SUBFLOW, *more),
        addresses=(*laptop().addresses, *addresses),
        lookups=(*laptop().lookups, *ways),
    )
    judgement = judge(facts, [PEER])
    assert [row.outcome for row in judgement.rows] == [
        Outcome.OPENS_FIRST,
        Outcome.WILL_JOIN,
        Outcome.WILL_JOIN,
        Outcome.WILL_NOT,
    ]
    assert codes(judgement) == ["limits-cut"]
    assert judgement.fixes[0].command == "ip mptcp limits set subflows 3"


def test_an_announced_address_is_for_routing_or_the_mesh_or_a_laminar_endpoint() -> None:
    probe = probed(announced=(SECOND,))
    open_limits = Limits(2, 1)
    plain = judge(laptop(endpoints=(), limits=open_limits), [PEER], probe)
    assert [(row.local, row.remote) for row in plain.rows] == [
        (WIFI, PEER), (MOBILE, PEER), (WIFI, SECOND),
    ]  # fmt: skip
    for flag, expected in ((Flags.FULLMESH, [MOBILE]), (Flags.LAMINAR, [MOBILE])):
        endpoint = replace(SUBFLOW, flags=Flags.SUBFLOW | flag)
        judgement = judge(laptop(endpoints=(endpoint,), limits=open_limits), [PEER], probe)
        assert [row.local for row in judgement.rows if row.remote == SECOND] == expected


def test_who_accepts_no_announcement_is_told_so() -> None:
    judgement = judge(laptop(endpoints=()), [PEER], probed(announced=(SECOND,)))
    assert "limits-add-addr-accepted" in codes(judgement)


def test_an_announcement_that_only_a_counter_tells_of() -> None:
    probe = probed(announced=None, counters={"MPTcpExtAddAddr": 1})
    judgement = judge(laptop(), [PEER], probe)
    assert codes(judgement)[-1] == "limits-add-addr-accepted"
    assert judgement.rows[-1].remote is None
    unknown = judge(laptop(limits=Limits(2, 1)), [PEER], probe)
    assert unknown.rows[-1].outcome is Outcome.UNKNOWN


def test_without_evidence_nothing_is_said() -> None:
    judgement = judge(laptop(), [PEER], probed())
    assert judgement.rows[-1].outcome is Outcome.UNKNOWN
    assert codes(judgement) == []
    assert not judgement.enough
    unprivileged = judge(laptop(), [PEER], probed(denies_initial_address=None, announced=None))
    assert "--capture" in unprivileged.rows[-1].note


def test_the_peer_s_flag_counts_from_the_probe_and_from_a_capture() -> None:
    denied = judge(laptop(), [PEER], probed(denies_initial_address=True))
    assert codes(denied) == ["peer-denies-initial-address"]
    seen = PacketsSeen((), denies_initial_address=True)
    probe = probed(denies_initial_address=None, announced=None)
    assert codes(judge(laptop(), [PEER], probe, seen)) == ["peer-denies-initial-address"]


@pytest.mark.parametrize(
    ("protocol", "counters", "code"),
    [
        ("fallback", {"MPTcpExtMPCapableFallbackSYNACK": 1}, "peer-plain-tcp"),
        ("fallback", {"MPTcpExtMPCapableSYNTXDrop": 1}, "capable-dropped"),
        ("fallback", {"MPTcpExtMPCapableSYNTXDisabled": 1}, "blackhole"),
        ("fallback", {"MPTcpExtDssFallback": 1}, "fell-back"),
        ("", {}, "no-connection"),
    ],
)
def test_a_first_handshake_that_fails(protocol: str, counters: dict[str, int], code: str) -> None:
    probe = Probe(PEER, 80, None, protocol, "refused", counters=counters)
    judgement = judge(laptop(), [PEER], probe)
    assert codes(judgement) == [code]
    assert not judgement.enough


def shake(**changes: Any) -> PacketsSeen:
    """Return what packets show of a join from the second access."""
    return PacketsSeen((HandshakeSeen(MOBILE, PEER, False, 2, ("mobile",), **changes),), False)


@pytest.mark.parametrize(
    ("subflow", "changes", "code"),
    [
        (Came.UNANSWERED, {"packets": shake(), "plain": {MOBILE: "connected"}}, "join-dropped"),
        (Came.UNANSWERED, {"packets": shake(), "plain": {MOBILE: "no answer"}}, "no-answer"),
        (Came.UNANSWERED, {"packets": PacketsSeen((), False)}, "syn-not-sent"),
        (Came.UNANSWERED, {"packets": shake(answer="syn-ack")}, "answer-dropped-here"),
        (Came.UNANSWERED, {"packets": shake(answer="syn-ack without option")},
         "join-option-stripped"),
        (None, {"packets": shake(answer="reset")}, "join-refused"),
        (Came.CLOSED, {"packets": shake(answer="syn-ack", reset_after=True, reset_reason=3)},
         "peer-rejects"),
    ],
)  # fmt: skip
def test_a_join_that_was_tried(subflow: Came | None, changes: dict[str, Any], code: str) -> None:
    subflows = [] if subflow is None else [SubflowSeen(MOBILE, PEER, subflow)]
    judgement = judge(laptop(), [PEER], probed(*subflows, **changes))
    assert codes(judgement) == [code]
    assert judgement.rows[-1].outcome is Outcome.FAILED


def test_what_was_read_of_a_route_explains_a_join_before_a_guess_does() -> None:
    facts = laptop(
        endpoints=(replace(SUBFLOW, interface_index=0),), lookups=lookups(PEER, rule=False)
    )
    probe = probed(SubflowSeen(MOBILE, PEER, Came.UNANSWERED), plain={MOBILE: "no answer"})
    assert codes(judge(facts, [PEER], probe)) == ["route-other-interface"]


def test_a_subflow_that_goes_another_way_is_not_called_healthy() -> None:
    facts = laptop(
        endpoints=(replace(SUBFLOW, interface_index=0),), lookups=lookups(PEER, rule=False)
    )
    judgement = judge(facts, [PEER], probed(SubflowSeen(MOBILE, PEER, Came.ESTABLISHED)))
    assert judgement.rows[-1].outcome is Outcome.JOINED
    assert judgement.enough
    assert not judgement.healthy


def test_where_packets_left_counts_before_what_routes_say() -> None:
    facts = laptop(
        endpoints=(replace(SUBFLOW, interface_index=0),), lookups=lookups(PEER, rule=False)
    )
    joined = SubflowSeen(MOBILE, PEER, Came.ESTABLISHED)
    seen = shake(answer="syn-ack", established=True)
    assert codes(judge(facts, [PEER], probed(joined, packets=seen))) == []
    lost = probed(SubflowSeen(MOBILE, PEER, Came.UNANSWERED), packets=shake())
    assert codes(judge(facts, [PEER], lost)) == ["no-answer"]


def test_an_address_with_a_subflow_to_an_announced_one_is_not_missed_at_the_first() -> None:
    joined = SubflowSeen(MOBILE, SECOND, Came.ESTABLISHED)
    probe = probed(joined, announced=(SECOND,), denies_initial_address=True)
    judgement = judge(laptop(limits=Limits(2, 1)), [PEER], probe)
    assert judgement.healthy
    assert "has its subflow to an announced address" in judgement.rows[1].note


def test_as_a_server() -> None:
    deny = {"net.mptcp.enabled": "1", "net.mptcp.allow_join_initial_addr_port": "0"}
    lost = Endpoint(ip_address("10.0.3.1"), Flags.SIGNAL, 2)
    serving = judge(laptop(sysctls=deny, limits=Limits(0, 0)), [PEER]).serving
    assert [each.code for each in serving] == ["limits-subflows", "denies-initial-address"]
    serving = judge(laptop(sysctls=deny, endpoints=(lost,)), [PEER]).serving
    assert [each.code for each in serving] == ["endpoint-address-missing"]


def test_programs_without_mptcp_are_named_with_how_to_make_them() -> None:
    sockets = (
        ProgramSocket("curl", 7, "tcp", WIFI, 40000, PEER, 443),
        ProgramSocket("other", 8, "tcp", WIFI, 40001, SECOND, 443),
        ProgramSocket("wget", 9, "mptcp", WIFI, 40002, PEER, 443, 2),
    )
    remarks = {r.code: r.text for r in judge(laptop(sockets=sockets), [PEER]).remarks}
    assert "curl (7) to port 443" in remarks["program-tcp"]
    assert "mptcpize" in remarks["program-tcp"]
    assert "other" not in remarks["program-tcp"]
    assert "wget (9) to port 443 of 10.0.8.2: 2" in remarks["connections"]


def test_temporary_and_deprecated_addresses_and_those_without_a_way_are_not_expected() -> None:
    more = (
        HostAddress(ip_address("10.0.2.9"), 24, "mobile", secondary=True),
        HostAddress(ip_address("10.0.2.8"), 24, "mobile", deprecated=True),
        HostAddress(ip_address("172.17.0.1"), 16, "docker0"),
    )
    bridge = replace(laptop().interfaces[1], name="docker0", index=9)
    facts = laptop(
        addresses=(*laptop().addresses, *more), interfaces=(*laptop().interfaces, bridge)
    )
    assert judge(facts, [PEER]).expected == (WIFI, MOBILE)


def test_two_interfaces_without_tables_get_different_ones() -> None:
    lan = ip_address("10.0.3.1")
    third = Endpoint(lan, Flags.SUBFLOW, 2)
    ways = tuple(
        replace(each, source=lan, chosen=lan)
        for each in lookups(PEER, rule=False)
        if each.source == MOBILE and not each.device
    )
    main = [r for r in laptop().routes if r.table != 2]
    facts = laptop(
        endpoints=(replace(SUBFLOW, interface_index=0), third),
        interfaces=(*laptop().interfaces, replace(laptop().interfaces[1], name="lan", index=4)),
        addresses=(*laptop().addresses, HostAddress(lan, 24, "lan")),
        routes=(
            *main,
            replace(main[0], interface="mobile", gateway=ip_address("10.0.2.254")),
            replace(main[0], interface="lan", gateway=ip_address("10.0.3.254")),
        ),
        lookups=(*lookups(PEER, rule=False), *ways),
        rules=(),
    )
    judgement = judge(facts, [PEER])
    assert codes(judgement) == ["route-other-interface"] * 2
    assert [fix.command for fix in judgement.fixes] == [
        "ip -4 route add default via 10.0.2.254 dev mobile table 1003",
        "ip -4 rule add from 10.0.2.1 table 1003 priority 1000",
        "ip -4 route add default via 10.0.3.254 dev lan table 1004",
        "ip -4 rule add from 10.0.3.1 table 1004 priority 1000",
    ]

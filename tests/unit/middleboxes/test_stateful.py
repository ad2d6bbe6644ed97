"""NAT, firewall and randomised sequence numbers: what they remember, and for how long."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from tests.unit.middleboxes.boxes import INSIDE, OUTSIDE, PEER, answer, box, segment

from mptcplab.middleboxes.nat import Nat
from mptcplab.network.middlebox import ESTABLISHED_NS, UDP_NS
from mptcplab.wire.ip import parse_address
from mptcplab.wire.segment import ACK, FIN, RST, SYN

SECOND = 1_000_000_000
NEIGHBOUR = parse_address("10.0.1.2")


def nat(**plan: Any) -> Nat:
    made = box("nat", outside=IPv4Address("10.0.1.254"), **plan)
    assert isinstance(made, Nat)
    return made


def test_nat_hides_the_address_and_keeps_the_port() -> None:
    box = nat()
    (out,) = box.forward(segment(SYN), True, 0)
    assert (out.src, out.src_port, out.dst, out.dst_port) == (OUTSIDE, 1000, PEER, 80)
    (back,) = box.forward(answer(SYN | ACK, dst=OUTSIDE), False, 0)
    assert (back.dst, back.dst_port) == (INSIDE, 1000)


def test_nat_gives_another_port_where_one_is_taken() -> None:
    box = nat()
    box.forward(segment(SYN), True, 0)
    (out,) = box.forward(segment(SYN, src=NEIGHBOUR), True, 0)
    assert out.src == OUTSIDE
    assert out.src_port != 1000
    (back,) = box.forward(answer(dst=OUTSIDE, dst_port=out.src_port), False, 0)
    assert (back.dst, back.dst_port) == (NEIGHBOUR, 1000)


def test_nat_maps_alike_for_every_peer() -> None:
    """RFC 4787, REQ-1."""
    box = nat()
    box.forward(segment(SYN, src=NEIGHBOUR), True, 0)
    ports = {
        box.forward(segment(SYN, dst=peer, dst_port=port), True, 0)[0].src_port
        for peer in (PEER, parse_address("10.0.9.8"))
        for port in (80, 443)
    }
    assert len(ports) == 1


def test_nat_lets_nobody_in_that_was_not_sent_to() -> None:
    box = nat()
    box.forward(segment(SYN), True, 0)
    assert box.forward(answer(SYN, dst=OUTSIDE, src_port=81), False, 0) == []
    assert box.forward(answer(SYN, dst=OUTSIDE, dst_port=1001), False, 0) == []
    assert box.forward(answer(SYN), False, 0) == [], "nobody outside knows addresses inside"
    assert box.tallies[False].dropped == 3


def test_tcp_and_udp_have_ports_of_their_own() -> None:
    box = nat()
    box.forward(segment(SYN), True, 0)
    (out,) = box.forward(segment(0, b"x", src=NEIGHBOUR), True, 0)
    assert out.src_port == 1000


@pytest.mark.parametrize(
    ("flags", "answered", "idle_ns", "lives"),
    [
        (SYN, True, ESTABLISHED_NS, True),
        (SYN, True, ESTABLISHED_NS + 1, False),
        (SYN, False, 240 * SECOND, True),
        (SYN, False, 240 * SECOND + 1, False),
        (0, True, UDP_NS, True),
        (0, True, UDP_NS + 1, False),
    ],
)
def test_mappings_last_as_long_as_the_rfcs_have_it(
    flags: int, answered: bool, idle_ns: int, lives: bool
) -> None:
    box = nat()
    box.forward(segment(flags), True, 0)
    if answered:
        box.forward(answer(ACK if flags else 0, dst=OUTSIDE), False, 0)
    came = box.forward(answer(ACK if flags else 0, dst=OUTSIDE), False, idle_ns)
    assert bool(came) is lives


def test_a_port_is_free_again_once_its_connections_are_forgotten() -> None:
    box = nat(timeout_ns=10 * SECOND)
    box.forward(segment(SYN), True, 0)
    (out,) = box.forward(segment(SYN, src=NEIGHBOUR), True, 11 * SECOND)
    assert out.src_port == 1000


def test_a_nat_that_is_switched_off_forgets_its_mappings() -> None:
    box = nat()
    box.forward(segment(SYN), True, 0)
    box.set_enabled(False)
    assert box.forward(segment(ACK), True, 1)[0].src == INSIDE
    box.set_enabled(True)
    assert box.forward(answer(dst=OUTSIDE), False, 2) == []


def test_ipv6_and_the_routers_own_packets_pass_a_nat() -> None:
    six, own = parse_address("fd00::1"), segment(ACK, src=OUTSIDE)
    assert nat().forward(segment(ACK, src=six, dst=six), True, 0)[0].src == six
    assert nat().forward(own, True, 0)[0].src == OUTSIDE


def test_a_nat_without_a_free_port_drops() -> None:
    box = nat()
    for port in range(49_152, 65_536):
        box.forward(segment(0, src_port=port), True, 0)
    assert box.tallies[True].dropped == 0
    assert box.forward(segment(0, src=NEIGHBOUR, src_port=49_152), True, 0) == []
    assert box.forward(segment(0, src=NEIGHBOUR, src_port=1000), True, 0)


def test_the_firewall_lets_in_what_was_asked_for_inside() -> None:
    wall = box("firewall")
    assert wall.forward(answer(SYN), False, 0) == []
    assert wall.forward(segment(SYN), True, 0)
    assert wall.forward(answer(SYN | ACK), False, 0)
    assert wall.forward(answer(ACK, b"x", src_port=81), False, 0) == []
    assert wall.forward(answer(0, b"x"), False, 0) == [], "UDP is another protocol"
    assert wall.forward(segment(0, b"x"), True, 0)
    assert wall.forward(answer(0, b"x"), False, 0)


def test_the_firewall_drops_connections_that_are_older_than_it() -> None:
    wall = box("firewall")
    assert wall.forward(segment(ACK, b"x"), True, 0) == []
    assert wall.tallies[True].dropped == 1


def test_the_firewall_forgets_idle_connections() -> None:
    wall = box("firewall", timeout_ns=5 * SECOND)
    wall.forward(segment(SYN), True, 0)
    wall.forward(answer(SYN | ACK), False, 0)
    assert wall.forward(answer(ACK, b"x"), False, 5 * SECOND)
    assert wall.forward(answer(ACK, b"x"), False, 10 * SECOND + 1) == []


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_a_connection_that_is_over_is_forgotten_sooner(ending: str) -> None:
    wall = box("firewall")
    wall.forward(segment(SYN), True, 0)
    wall.forward(answer(SYN | ACK), False, 0)
    if ending == "fin":
        wall.forward(segment(ACK | FIN), True, 0)
        wall.forward(answer(ACK | FIN), False, 0)
    else:
        wall.forward(answer(RST), False, 0)
    assert wall.forward(answer(ACK), False, 240 * SECOND + 1) == []


def test_sequence_numbers_are_shifted_and_shifted_back_also_in_sack_blocks() -> None:
    shift = box("randomise-sequence", direction="forward")
    (syn,) = shift.forward(segment(SYN, seq=0xFFFF_FFFF), True, 0)
    offset = (syn.seq - 0xFFFF_FFFF) & 0xFFFF_FFFF
    assert offset
    shown = (5 + offset) & 0xFFFF_FFFF
    (data,) = shift.forward(segment(ACK, b"x", seq=5, ack=70), True, 0)
    assert (data.seq, data.ack) == (shown, 70)
    back = answer(ACK, seq=70, ack=shown, sack=((shown, (shown + 9) & 0xFFFF_FFFF),))
    (came,) = shift.forward(back, False, 0)
    assert (came.seq, came.ack, came.sack) == (70, 5, ((5, 14),))


def test_both_directions_have_numbers_of_their_own() -> None:
    shift = box("randomise-sequence")
    (syn,) = shift.forward(segment(SYN, seq=0), True, 0)
    (syn_ack,) = shift.forward(answer(SYN | ACK, seq=0, ack=syn.seq + 1), False, 0)
    assert syn.seq != syn_ack.seq
    assert syn_ack.ack == 1
    (third,) = shift.forward(segment(ACK, seq=1, ack=(syn_ack.seq + 1) & 0xFFFF_FFFF), True, 0)
    assert third.ack == 1


def test_connections_that_began_before_the_box_keep_their_numbers() -> None:
    shift = box("randomise-sequence")
    (out,) = shift.forward(segment(ACK, b"x", seq=5, ack=6), True, 0)
    assert (out.seq, out.ack) == (5, 6)
    assert shift.tallies[True].changed == 0

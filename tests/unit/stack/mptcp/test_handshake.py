"""MP_CAPABLE and MP_JOIN between two sessions, without a stack (RFC 8684 sections 3.1 and 3.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.keys import KEY_A as CLIENT_KEY
from tests.keys import KEY_B as SERVER_KEY

from mptcplab.stack.mptcp import handshake
from mptcplab.stack.mptcp.handshake import Join, Judgment
from mptcplab.stack.mptcp.mode import Mode
from mptcplab.stack.mptcp.session import Session
from mptcplab.stack.testing import config
from mptcplab.wire.mptcp import (
    CAPABLE_CHECKSUM,
    CAPABLE_EXTENSIBILITY,
    CAPABLE_HMAC,
    Dss,
    MpCapable,
    MptcpOption,
)
from mptcplab.wire.segment import ACK, SYN, Segment

LOCAL, REMOTE = bytes((10, 0, 1, 1)), bytes((10, 0, 1, 2))


def segment(options: tuple[MptcpOption, ...], flags: int = ACK) -> Segment:
    """A segment that brings options."""
    return Segment(REMOTE, 80, LOCAL, 40_000, flags=flags, mptcp=options)


def sessions(version: int = 1, *, checksum: bool = False) -> tuple[Session, Session]:
    """A client and a server that have their own keys."""
    settings = replace(config(), version=version)
    client = Session(settings, is_client=True)
    server = Session(replace(settings, checksum=checksum), is_client=False)
    client.set_local_key(CLIENT_KEY)
    server.set_local_key(SERVER_KEY)
    return client, server


def exchange(client: Session, server: Session) -> None:
    """The three packets of MP_CAPABLE."""
    syn = segment(handshake.capable_syn(client, passive=False), SYN)
    offer = handshake.find_capable(syn)
    assert offer is not None
    assert handshake.usable_offer(offer, server.version)
    server.take_capable(offer)
    syn_ack = segment(handshake.capable_syn(server, passive=True), SYN | ACK)
    judgment = handshake.judge_capable_syn_ack(client, syn_ack, offered=True)
    assert judgment is Judgment.ACCEPT
    third = segment(handshake.capable_ack(client))
    assert handshake.judge_capable_ack(server, third, True) is Judgment.ACCEPT


@pytest.mark.parametrize("version", [0, 1])
def test_both_learn_the_others_key_and_where_its_stream_begins(version: int) -> None:
    client, server = sessions(version)
    exchange(client, server)
    assert client.peer_key == SERVER_KEY
    assert server.peer_key == CLIENT_KEY
    assert client.peer_token == server.local_token
    assert client.tx_numbers.at(0) == server.rx_numbers.at(0)
    assert server.tx_numbers.at(0) == client.rx_numbers.at(0)


def test_the_checksum_is_used_when_one_side_asks() -> None:
    client, server = sessions(checksum=True)
    exchange(client, server)
    assert client.checksum
    assert client.capable_flags() & CAPABLE_CHECKSUM


@pytest.mark.parametrize(
    "option",
    [
        None,
        MpCapable(1, CAPABLE_HMAC),  # no key
        MpCapable(1, 0, SERVER_KEY),  # no algorithm in common
        MpCapable(1, CAPABLE_HMAC | CAPABLE_EXTENSIBILITY, SERVER_KEY),
        MpCapable(0, CAPABLE_HMAC, SERVER_KEY),  # another version
    ],
)
def test_a_syn_ack_without_usable_terms_falls_back(option: MpCapable | None) -> None:
    client, _ = sessions()
    answer = segment(() if option is None else (option,), SYN | ACK)
    judgment = handshake.judge_capable_syn_ack(client, answer, offered=True)
    assert judgment is Judgment.FALL_BACK
    assert not client.peer_key_known


def test_an_answer_to_what_was_not_offered_falls_back() -> None:
    client, server = sessions()
    answer = segment(handshake.capable_syn(server, passive=True), SYN | ACK)
    judgment = handshake.judge_capable_syn_ack(client, answer, offered=False)
    assert judgment is Judgment.FALL_BACK


def test_the_third_packet_must_have_our_key() -> None:
    _, server = sessions()
    wrong = MpCapable(1, CAPABLE_HMAC, CLIENT_KEY, SERVER_KEY + 1)
    assert handshake.judge_capable_ack(server, segment((wrong,)), True) is Judgment.FALL_BACK


def test_data_that_overtake_the_third_packet_wait_for_its_key() -> None:
    _, server = sessions()
    assert handshake.judge_capable_ack(server, segment((Dss(1, True),)), True) is Judgment.IGNORE
    assert handshake.judge_capable_ack(server, segment(()), True) is Judgment.FALL_BACK


@pytest.mark.parametrize(
    ("option", "in_order", "judgment"),
    [
        (Dss(1, True), True, Judgment.FALL_BACK),  # after a cookie that was wrong
        (MpCapable(1, CAPABLE_HMAC, CLIENT_KEY, SERVER_KEY), True, Judgment.FALL_BACK),
        (Dss(1, True), False, Judgment.IGNORE),  # the rest of what a packet before it mapped
        (Dss(1, True, 1, True, 1, 10), True, Judgment.IGNORE),
        (MpCapable(1, CAPABLE_HMAC, CLIENT_KEY, SERVER_KEY, 10), True, Judgment.ACCEPT),
    ],
)
def test_first_text_that_nothing_maps_falls_back(
    option: MpCapable | Dss, in_order: bool, judgment: Judgment
) -> None:
    """As Linux's clients send again what they had in a SYN, and its servers take it."""
    _, server = sessions()
    third = segment((option,))
    third.payload_bytes = 10
    assert handshake.judge_capable_ack(server, third, in_order) is judgment


def test_plain_tcp_accepts_whatever_comes() -> None:
    plain = Session(replace(config(), mptcp=False), is_client=True)
    assert plain.mode is Mode.PLAIN
    assert handshake.judge_capable_syn_ack(plain, segment(()), False) is Judgment.ACCEPT
    assert handshake.judge_capable_ack(plain, segment(()), True) is Judgment.ACCEPT


def joins() -> tuple[Join, Join]:
    """The two ends of a join, which know each other's nonce as far as the SYN says it."""
    opener, answerer = Join(), Join()
    opener.local_nonce, answerer.local_nonce = 0x01020304, 0x05060708
    answerer.remote_nonce = opener.local_nonce
    return opener, answerer


def test_a_join_proves_both_keys() -> None:
    client, server = sessions()
    exchange(client, server)
    opener, answerer = joins()
    syn = handshake.find_join_syn(segment(handshake.join_syn(client, opener, backup=True), SYN))
    assert syn is not None
    assert syn.token == server.local_token
    answer = segment(handshake.join_syn_ack(server, answerer, backup=False), SYN | ACK)
    assert handshake.judge_join_syn_ack(client, opener, answer) is not None
    assert opener.remote_nonce == answerer.local_nonce
    third = segment(handshake.join_ack(client, opener))
    assert handshake.judge_join_ack(server, answerer, third) is Judgment.ACCEPT


def test_a_join_with_a_wrong_hmac_or_none_is_reset() -> None:
    client, server = sessions()
    exchange(client, server)
    opener, answerer = joins()
    _, stranger = sessions()
    stranger.set_local_key(SERVER_KEY + 1)
    answer = segment(handshake.join_syn_ack(stranger, answerer, backup=False), SYN | ACK)
    assert handshake.judge_join_syn_ack(client, opener, answer) is None
    assert handshake.judge_join_syn_ack(client, opener, segment((), SYN | ACK)) is None
    forged = segment(handshake.join_ack(stranger, opener))
    assert handshake.judge_join_ack(server, answerer, forged) is Judgment.RESET
    assert handshake.judge_join_ack(server, answerer, segment(())) is Judgment.RESET

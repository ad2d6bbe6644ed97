"""Cookies of TCP Fast Open, in both roles."""

from __future__ import annotations

from random import Random

import pytest
from tests.times import MINUTE, SECOND

from mptcplab.stack.fast_open import COOKIE_BYTES, MOST_PEERS, FastOpen
from mptcplab.wire.fast_open import fast_open_option, find_cookie
from mptcplab.wire.segment import RawOption, Segment

HERE, THERE, ELSEWHERE = b"\x0a\0\0\1", b"\x0a\0\0\2", b"\x0a\0\0\3"


def with_option(option: RawOption) -> Segment:
    segment = Segment(HERE, 1, THERE, 2)
    segment.raw_options = (RawOption(254, b"\xfe\x02"), option)
    return segment


def test_a_cookie_is_of_one_client_at_one_server() -> None:
    server, other = FastOpen(Random(1)), FastOpen(Random(2))
    cookie = server.cookie_for(HERE, THERE)
    assert len(cookie) == COOKIE_BYTES
    assert server.cookie_for(HERE, THERE) == cookie
    assert cookie not in (
        server.cookie_for(ELSEWHERE, THERE),
        server.cookie_for(HERE, ELSEWHERE),
        other.cookie_for(HERE, THERE),
    )


def test_a_host_without_it_draws_no_secret() -> None:
    random = Random(1)
    FastOpen(random).peer(HERE, THERE, 0)
    assert random.random() == Random(1).random()


@pytest.mark.parametrize("size", [0, 4, 6, 8, 16])
def test_cookies_of_allowed_lengths_are_found(size: int) -> None:
    cookie = bytes(range(size))
    assert find_cookie(with_option(fast_open_option(cookie))) == cookie


@pytest.mark.parametrize("size", [1, 2, 5, 7, 18])
def test_other_lengths_count_as_no_option(size: int) -> None:
    assert find_cookie(with_option(fast_open_option(bytes(size)))) is None
    assert find_cookie(Segment(HERE, 1, THERE, 2)) is None


def test_a_client_keeps_cookie_and_mss() -> None:
    client = FastOpen(Random(1))
    first = client.peer(HERE, THERE, 0)
    assert first is not None
    assert first.cookie == b""
    client.note_answer(HERE, THERE, b"cookie", 1400, -1)
    client.note_answer(HERE, THERE, None, 1300, -1)  # none in the answer to one that is right
    known = client.peer(HERE, THERE, 0)
    assert known is not None
    assert (known.cookie, known.mss_bytes) == (b"cookie", 1300)
    other = client.peer(HERE, ELSEWHERE, 0)
    assert other is not None
    assert other.cookie == b""


def test_after_two_lost_syns_it_pauses_ever_longer() -> None:
    client = FastOpen(Random(1))
    client.note_answer(HERE, THERE, b"cookie", 1400, -1)
    client.note_answer(HERE, THERE, None, 1400, 10 * SECOND)
    assert client.peer(HERE, THERE, 11 * SECOND) is not None
    client.note_answer(HERE, THERE, None, 1400, 20 * SECOND)
    assert client.peer(HERE, THERE, 20 * SECOND + 4 * MINUTE - 1) is None
    assert client.peer(HERE, THERE, 20 * SECOND + 4 * MINUTE) is not None
    client.note_answer(HERE, THERE, None, 1400, 5 * MINUTE)
    assert client.peer(HERE, THERE, 12 * MINUTE) is None
    client.note_answer(HERE, THERE, None, 1400, -1)
    assert client.peer(HERE, THERE, 12 * MINUTE) is not None


def test_the_oldest_peer_makes_room() -> None:
    client = FastOpen(Random(1))
    for number in range(MOST_PEERS + 1):
        client.note_answer(HERE, number.to_bytes(4, "big"), b"cookie", 1400, -1)
    first = client.peer(HERE, bytes(4), 0)
    last = client.peer(HERE, MOST_PEERS.to_bytes(4, "big"), 0)
    assert first is not None
    assert last is not None
    assert (first.cookie, last.cookie) == (b"", b"cookie")

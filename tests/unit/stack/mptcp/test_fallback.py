"""What segments show of options that are being removed (RFC 8684 section 3.7)."""

from __future__ import annotations

import pytest
from tests.keys import KEY_A as CLIENT_KEY
from tests.keys import KEY_B as SERVER_KEY

from mptcplab.stack.mptcp import fallback
from mptcplab.stack.mptcp.mode import Evidence
from mptcplab.wire.mptcp import CAPABLE_HMAC, AddAddr, Dss, MpCapable, MptcpOption
from mptcplab.wire.segment import ACK, Segment

LOCAL, REMOTE = bytes((10, 0, 1, 1)), bytes((10, 0, 1, 2))
CAPABLE = MpCapable(1, CAPABLE_HMAC, CLIENT_KEY, SERVER_KEY)
CAPABLE_WITH_DATA = MpCapable(1, CAPABLE_HMAC, CLIENT_KEY, SERVER_KEY, 100)


def segment(*options: MptcpOption, payload_bytes: int = 0) -> Segment:
    """A segment with options."""
    return Segment(REMOTE, 80, LOCAL, 40_000, flags=ACK, payload_bytes=payload_bytes, mptcp=options)


@pytest.mark.parametrize(
    ("arriving", "snd_una", "evidence"),
    [
        (segment(Dss(1, True)), 1, Evidence.CONFIRMED),
        (segment(), 1, None),  # the peer has nothing to acknowledge yet
        (segment(), 101, Evidence.FIRST_BARE),  # it acknowledges data, without DATA_ACK
        (segment(payload_bytes=100), 1, Evidence.FIRST_BARE),
        (segment(AddAddr(1, LOCAL, None)), 101, None),  # options do come
    ],
)
def test_the_servers_first_segments(
    arriving: Segment, snd_una: int, evidence: Evidence | None
) -> None:
    dss = next((option for option in arriving.mptcp if isinstance(option, Dss)), None)
    assert fallback.of_first_segments(True, arriving, dss, snd_una) is evidence


@pytest.mark.parametrize(
    ("arriving", "evidence"),
    [
        (segment(CAPABLE), None),
        (segment(CAPABLE_WITH_DATA, payload_bytes=100), Evidence.CONFIRMED),
        (segment(), Evidence.FIRST_BARE),
        (segment(payload_bytes=100), Evidence.FIRST_BARE),
    ],
)
def test_the_clients_first_segments(arriving: Segment, evidence: Evidence | None) -> None:
    assert fallback.of_first_segments(False, arriving, None, 1) is evidence


def test_acks_without_data_ack_count_only_for_data() -> None:
    assert fallback.acks_outrun_data_acks(101, -1, -1, 0)
    assert not fallback.acks_outrun_data_acks(101, -1, -1, 100)
    assert not fallback.acks_outrun_data_acks(102, -1, 101, 0)  # our FIN is what it acknowledges


def test_a_join_is_stripped_when_its_first_data_are_acknowledged_without_data_ack() -> None:
    assert fallback.join_is_stripped(False, False, segment(), 101, -1)
    assert not fallback.join_is_stripped(False, True, segment(), 101, -1)
    assert not fallback.join_is_stripped(False, False, segment(), 1, -1)
    assert not fallback.join_is_stripped(True, False, segment(), 101, -1)

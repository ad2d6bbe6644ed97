from __future__ import annotations

from mptcplab.stack.mptcp.send_limits import (
    APPLICATION,
    HANDSHAKE,
    HEAD_OF_LINE_SLOW,
    NAMES,
    NOBODY,
    OVER,
    SLOW_START,
    SendLimits,
)
from mptcplab.stack.readings import limit_rows


def test_each_moment_belongs_to_one_reason() -> None:
    limits = SendLimits()
    limits.note(HANDSHAKE, 100)
    limits.note(SLOW_START, 130)
    limits.note(SLOW_START, 140)
    limits.note(HEAD_OF_LINE_SLOW, 150, 1)
    limits.note(HEAD_OF_LINE_SLOW, 155, 2)
    limits.note(APPLICATION, 160)
    assert limits.totals_ns(170) == {
        (HANDSHAKE, NOBODY): 30,
        (SLOW_START, NOBODY): 20,
        (HEAD_OF_LINE_SLOW, 1): 5,
        (HEAD_OF_LINE_SLOW, 2): 5,
        (APPLICATION, NOBODY): 10,
    }


def test_the_time_after_the_end_does_not_count() -> None:
    limits = SendLimits()
    limits.note(APPLICATION, 10)
    limits.note(OVER, 20)
    assert limits.totals_ns(1000) == {(APPLICATION, NOBODY): 10}


def test_a_connection_that_goes_on_waiting_is_counted_when_it_is_asked() -> None:
    limits = SendLimits()
    limits.note(APPLICATION, 10)
    assert [limits.totals_ns(at)[APPLICATION, NOBODY] for at in (15, 30)] == [5, 20]


def test_rows_have_the_names_of_all_reasons() -> None:
    limits = SendLimits()
    limits.note(HEAD_OF_LINE_SLOW, 0, 3)
    assert limit_rows(limits, 7) == [{"limited_by": "head-of-line", "subflow": 3, "duration_ns": 7}]
    assert len(NAMES) == OVER

"""The data-level states of RFC 8684 appendix D, and what a connection does about its subflows."""

from __future__ import annotations

import pytest

from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp import closing
from mptcplab.stack.mptcp.closing import Action
from mptcplab.stack.mptcp.ending import DataChange, DataState, Ending
from mptcplab.stack.mptcp.mode import Mode


def ending(*changes: DataChange) -> Ending:
    """An ending to which these things happened."""
    result = Ending()
    for change in changes:
        result.change(change)
    return result


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ([DataChange.END_SENT], DataState.FIN_WAIT_1),
        ([DataChange.END_SENT, DataChange.END_ACKED], DataState.FIN_WAIT_2),
        (
            [DataChange.END_SENT, DataChange.END_ACKED, DataChange.PEER_ENDED],
            DataState.TIME_WAIT,
        ),
        ([DataChange.END_SENT, DataChange.PEER_ENDED], DataState.CLOSING),
        (
            [DataChange.END_SENT, DataChange.PEER_ENDED, DataChange.END_ACKED],
            DataState.TIME_WAIT,
        ),
        ([DataChange.PEER_ENDED], DataState.CLOSE_WAIT),
        ([DataChange.PEER_ENDED, DataChange.END_SENT], DataState.LAST_ACK),
        (
            [DataChange.PEER_ENDED, DataChange.END_SENT, DataChange.END_ACKED],
            DataState.TIME_WAIT,
        ),
    ],
)
def test_the_states_of_appendix_d(changes: list[DataChange], state: DataState) -> None:
    reached = ending(*changes)
    assert reached.state is state
    assert reached.fin_sent is (DataChange.END_SENT in changes)
    assert reached.fin_acked is (DataChange.END_ACKED in changes)
    assert reached.peer_finished is (DataChange.PEER_ENDED in changes)


@pytest.mark.parametrize(
    "changes",
    [
        [DataChange.END_ACKED],
        [DataChange.END_WITHDRAWN],
        [DataChange.END_SENT, DataChange.END_SENT],
        [DataChange.PEER_ENDED, DataChange.PEER_ENDED],
        [DataChange.END_SENT, DataChange.END_ACKED, DataChange.END_WITHDRAWN],
    ],
)
def test_what_the_table_does_not_list_is_impossible(changes: list[DataChange]) -> None:
    with pytest.raises(KeyError):
        ending(*changes)


def test_a_fallback_withdraws_a_data_fin_that_nobody_acknowledged() -> None:
    unacknowledged = ending(DataChange.PEER_ENDED, DataChange.END_SENT)
    unacknowledged.withdraw_end()
    assert unacknowledged.state is DataState.CLOSE_WAIT
    acknowledged = ending(DataChange.END_SENT, DataChange.END_ACKED)
    acknowledged.withdraw_end()
    assert acknowledged.state is DataState.FIN_WAIT_2


def test_a_subflows_fin_alone_may_end_the_stream() -> None:
    plain = ending()
    plain.end_acked()
    assert plain.state is DataState.FIN_WAIT_2
    plain.end_acked()
    assert plain.state is DataState.FIN_WAIT_2


def test_delivery_is_told_once() -> None:
    done = ending(DataChange.END_SENT)
    assert not done.tells_delivered()
    done.change(DataChange.END_ACKED)
    assert done.tells_delivered()
    assert not done.tells_delivered()


def test_subflows_close_when_both_streams_are_done() -> None:
    half = ending(DataChange.END_SENT, DataChange.END_ACKED)
    assert closing.at_progress(half, Mode.FULL, 2, peer_may_send=True) is Action.NOTHING
    assert closing.at_progress(half, Mode.FULL, 2, peer_may_send=False) is Action.CLOSE_HALF_CLOSED
    half.change(DataChange.PEER_ENDED)
    assert closing.at_progress(half, Mode.FULL, 2, peer_may_send=True) is Action.CLOSE_SUBFLOWS
    assert closing.at_progress(half, Mode.FULL, 0, peer_may_send=False) is Action.END
    for mode in (Mode.PLAIN, Mode.TX_INFINITE, Mode.INFINITE):  # their FINs have said it
        assert closing.at_progress(half, mode, 1, peer_may_send=True) is Action.NOTHING


def test_the_last_subflow_stays_open_while_there_is_something_to_send() -> None:
    assert closing.at_subflow_fin(ending(), subflows=2) is Action.FINISH_SUBFLOW
    assert closing.at_subflow_fin(ending(), subflows=1) is Action.AWAIT_SUBFLOW
    done = ending(DataChange.END_SENT, DataChange.END_ACKED)
    assert closing.at_subflow_fin(done, subflows=1) is Action.FINISH_SUBFLOW


@pytest.mark.parametrize(
    ("mode", "action"),
    [
        (Mode.OFFERED, Action.END),
        (Mode.FULL, Action.AWAIT_SUBFLOW),
        (Mode.TX_INFINITE, Action.END),
        (Mode.INFINITE, Action.END),
        (Mode.PLAIN, Action.END),
    ],
)
def test_break_before_make_is_for_the_fully_established(mode: Mode, action: Action) -> None:
    assert closing.at_subflow_gone(ending(), mode, subflows=0) is action
    assert closing.at_subflow_gone(ending(), mode, subflows=1) is Action.REPLACE


def test_a_connection_whose_streams_are_done_needs_no_subflow() -> None:
    done = ending(DataChange.PEER_ENDED, DataChange.END_SENT, DataChange.END_ACKED)
    assert closing.at_subflow_gone(done, Mode.FULL, subflows=0) is Action.END
    done.close(CloseReason.FINISHED)
    assert done.state is DataState.CLOSED
    assert closing.at_subflow_gone(done, Mode.FULL, subflows=0) is Action.NOTHING


def test_an_orphan_waits_while_it_has_something_to_deliver() -> None:
    assert closing.at_orphan_timeout(subflows=0, idle=False) is Action.END
    assert closing.at_orphan_timeout(subflows=1, idle=True) is Action.CLOSE_HALF_CLOSED
    assert closing.at_orphan_timeout(subflows=1, idle=False) is Action.AWAIT_SUBFLOW

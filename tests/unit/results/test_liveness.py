"""When a connection counts as dead, and what is said of it."""

from __future__ import annotations

import pytest

from mptcplab.results.liveness import Liveness, patience_ns, why_never_up

SECOND_NS = 1_000_000_000
PATIENCE_NS = 7 * SECOND_NS


def live(until_s: int) -> Liveness:
    """Return a connection that moved 1,000 bytes a second, with more waiting."""
    liveness = Liveness(PATIENCE_NS)
    liveness.came_up = True
    for second in range(until_s + 1):
        liveness.note(second * SECOND_NS, 1000 * second, 5000)
    return liveness


def stall(
    liveness: Liveness, since_s: int, until_s: int, *, reachable: bool = True, obstacle: str = ""
) -> None:
    """Let it show nothing new."""
    for second in range(since_s, until_s + 1):
        liveness.note(second * SECOND_NS, 0, 5000, reachable=reachable, obstacle=obstacle)


def test_one_that_moves_lives() -> None:
    liveness = live(25)
    assert liveness.dead_since_ns(25 * SECOND_NS) is None
    assert not liveness.is_hopeless(25 * SECOND_NS)
    assert not liveness.judge("flow main", 25 * SECOND_NS).reason


def test_one_that_stops_is_dead_from_then_on_with_the_last_thing_known() -> None:
    liveness = live(5)
    stall(liveness, 6, 25, obstacle="the receiver's window is closed")
    assert liveness.is_hopeless(25 * SECOND_NS)
    assert liveness.judge("flow main", 25 * SECOND_NS).reason == (
        "flow main: no progress from 5 s on, with 5000 bytes waiting: "
        "the receiver's window is closed"
    )


def test_a_pause_within_patience_is_no_death() -> None:
    liveness = live(5)
    stall(liveness, 6, 12)
    assert liveness.dead_since_ns(12 * SECOND_NS) is None
    assert liveness.dead_since_ns(12 * SECOND_NS + 1) == 5 * SECOND_NS


def test_one_that_has_nothing_to_send_is_not_dead() -> None:
    liveness = live(5)
    for second in range(6, 60):
        liveness.note(second * SECOND_NS, 5000, 0)
    assert not liveness.is_hopeless(60 * SECOND_NS)


def test_links_that_the_scenario_took_down_are_a_note() -> None:
    liveness = live(5)
    stall(liveness, 6, 60, reachable=False)
    judgement = liveness.judge("flow main", 60 * SECOND_NS)
    assert not judgement.reason
    assert judgement.note == (
        "flow main: no progress from 5 s on, with 5000 bytes waiting: "
        "the scenario had taken its links down"
    )
    assert liveness.is_hopeless(60 * SECOND_NS)


def test_after_an_outage_it_may_take_as_long_as_the_outage_was() -> None:
    liveness = live(5)
    stall(liveness, 6, 24, reachable=False)
    stall(liveness, 25, 60)
    assert liveness.dead_since_ns((25 + 20 + 7) * SECOND_NS) is None
    assert liveness.dead_since_ns((25 + 20 + 7) * SECOND_NS + 1) == 25 * SECOND_NS


def test_one_that_never_came_up_says_so_first() -> None:
    liveness = Liveness(PATIENCE_NS)
    liveness.note(5 * SECOND_NS, 0, 0, obstacle="no answer to its SYN")
    assert liveness.is_hopeless(5 * SECOND_NS)
    assert liveness.judge("flow f", 5 * SECOND_NS).reason == (
        "flow f: the connection never came up: no answer to its SYN"
    )


def test_patience_grows_with_round_trip_and_loss() -> None:
    lan = patience_ns(1_000_000)
    assert SECOND_NS < lan < 10 * SECOND_NS
    assert patience_ns(700_000_000) > 3 * lan / 2
    assert patience_ns(1_000_000, loss=0.5) > 10 * lan
    queue_ns = 3600 * SECOND_NS  # what waits at 100 b/s
    assert 2 * queue_ns <= patience_ns(queue_ns) < 3 * queue_ns


def test_one_that_stands_still_says_from_when_on_whatever_the_reason() -> None:
    for reachable in (True, False):
        liveness = live(5)
        assert liveness.stalled_since_ns(5 * SECOND_NS) is None
        stall(liveness, 6, 60, reachable=reachable)
        assert liveness.stalled_since_ns(60 * SECOND_NS) == 5 * SECOND_NS


@pytest.mark.parametrize("comma", [",", ""])
def test_why_a_connection_never_came_up_is_read_from_the_reasons(comma: str) -> None:
    name = f"flow main{comma} connection"
    reasons = [
        "link one: 1 Mb/s went through",
        f"{name} 0: the connection never came up: refused",
        f"{name} 1: the connection never came up",
        f"{name} 2: no progress from 1 s on",
    ]
    assert [why_never_up(reasons, "main", number) for number in range(3)] == ["refused", "", None]
    assert why_never_up(reasons, "other", 0) is None

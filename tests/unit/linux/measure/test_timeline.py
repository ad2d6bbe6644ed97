from __future__ import annotations

from tests.times import MS

from mptcplab.linux.measure.timeline import Timeline, describe
from mptcplab.loop import VirtualLoop
from mptcplab.scenario.model import Action


def action(at_ms: int, verb: str, target: str = "lan1") -> Action:
    return Action(at_ms * MS, verb, target, "link")


def test_actions_are_done_at_their_times_and_in_the_order_given() -> None:
    loop = VirtualLoop()
    done: list[tuple[int, str]] = []
    records: list[tuple[str, int, str]] = []
    timeline = Timeline(
        [action(20, "up"), action(10, "down"), action(20, "set")],
        loop,
        lambda each: done.append((loop.now_ns, each.verb)),
        lambda each, at_ns, problem: records.append((each.verb, at_ns, problem)),
    )
    timeline.start(5 * MS)
    loop.run()
    assert done == [(15 * MS, "down"), (25 * MS, "up"), (25 * MS, "set")]
    assert records == [("down", 15 * MS, ""), ("up", 25 * MS, ""), ("set", 25 * MS, "")]
    assert timeline.over
    assert timeline.late_max_ns == 0


def test_a_failed_action_is_recorded_and_the_rest_still_happens() -> None:
    loop = VirtualLoop()
    problems: list[str] = []

    def perform(each: Action) -> None:
        if each.verb == "down":
            raise OSError(19, "No such device")

    timeline = Timeline(
        [action(1, "down"), action(2, "up")],
        loop,
        perform,
        lambda each, at_ns, problem: problems.append(problem),
    )
    timeline.start(0)
    loop.run()
    assert "No such device" in problems[0]
    assert problems[1] == ""


def test_lateness_is_kept() -> None:
    loop = VirtualLoop(start_ns=30 * MS)
    timeline = Timeline([action(10, "up")], loop, lambda _: None, lambda *_: None)
    timeline.start(0)
    loop.run()
    assert timeline.late_max_ns == 20 * MS


def test_description() -> None:
    assert describe(action(0, "down")) == "link lan1 down"
    change = Action(0, "set", "wan", "link", (("rate_bps", 300),), "forward")
    assert describe(change) == "link wan set rate_bps=300 (forward)"

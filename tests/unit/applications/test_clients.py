"""What clients ask for and when, driven by hand with a clock of numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mptcplab.applications.client import Client, Finish, Open, Send
from mptcplab.applications.clients import ExchangeWorkload, client_of
from mptcplab.applications.distributions import Distribution, fixed
from mptcplab.applications.exchange import Exchange
from mptcplab.applications.messages import MessageSource
from mptcplab.applications.workloads import Messages, RequestResponse, Video, Web

MS = 1_000_000
SECOND = 1_000 * MS


class Driver:
    """Answers each request after a time that a test gives, on as many connections as opened."""

    def __init__(
        self, workload: ExchangeWorkload, slots: int = 1, answer_ns: int = 10 * MS
    ) -> None:
        self.client: Client = client_of(workload, slots, seed=1, flow="f")
        self.now_ns = 0
        self.opened: list[int] = []
        self.finished: list[int] = []
        self.done: list[Exchange] = []
        self._answer_ns = answer_ns
        self._answers: list[tuple[int, int, Exchange]] = []

    def act(self) -> None:
        while (command := self.client.poll()) is not None:
            if isinstance(command, Open):
                self.opened.append(command.slot)
            elif isinstance(command, Send):
                if command.exchange.response_bytes:
                    due_ns = self.now_ns + self._answer_ns
                    self._answers.append((due_ns, command.channel, command.exchange))
            elif isinstance(command, Finish):
                self.finished.append(command.channel)
                self.client.closed(command.channel)
        self.done += self.client.take_done()

    def run(self, until_ns: int) -> None:
        self.client.start(0)
        self.act()
        while True:
            wake_ns = self.client.next_wake_ns
            times = [due_ns for due_ns, _, _ in self._answers]
            times += [] if wake_ns is None else [wake_ns]
            if not times or min(times) > until_ns:
                return
            self.now_ns = min(times)
            if wake_ns == self.now_ns:
                self.client.wake(self.now_ns)
            else:
                due = min(self._answers, key=lambda answer: answer[0])
                self._answers.remove(due)
                _, channel, exchange = due
                self.client.received(channel, exchange.response_bytes, self.now_ns)
            self.act()


def test_requests_follow_responses_and_thinking() -> None:
    driver = Driver(RequestResponse(think=fixed(40 * MS)))
    driver.run(SECOND)
    assert [each.start_ns for each in driver.done] == [50 * MS * n for n in range(20)]
    assert {each.end_ns - each.start_ns for each in driver.done if each.end_ns} == {10 * MS}
    assert driver.opened == [0]


def test_each_request_may_have_a_connection_of_its_own() -> None:
    driver = Driver(RequestResponse(persistent=False, count=3))
    driver.run(SECOND)
    assert driver.opened == [0, 0, 0]
    assert driver.finished == [0, 1, 2]
    assert driver.client.is_finished


def test_slots_ask_independently_and_a_count_is_of_all() -> None:
    driver = Driver(RequestResponse(count=5), slots=2)
    driver.run(SECOND)
    assert driver.opened == [0, 1]
    assert sorted(each.number for each in driver.done) == list(range(5))


def test_arrivals_come_by_the_clock_and_wait_where_connections_are_kept() -> None:
    workload = RequestResponse(arrivals=fixed(4 * MS), persistent=True, count=3)
    driver = Driver(workload)
    driver.run(SECOND)
    assert [each.start_ns for each in driver.done] == [4 * MS, 8 * MS, 12 * MS]
    assert [each.end_ns for each in driver.done] == [14 * MS, 24 * MS, 34 * MS]


def test_arrivals_without_kept_connections_do_not_wait() -> None:
    workload = RequestResponse(arrival_times=(0, 0, 5 * MS), persistent=False)
    driver = Driver(workload)
    driver.run(SECOND)
    assert [each.end_ns for each in driver.done] == [10 * MS, 10 * MS, 15 * MS]
    assert len(driver.opened) == 3


def test_what_waits_when_it_is_stopped_stays_unanswered_in_the_books() -> None:
    driver = Driver(RequestResponse(arrival_times=(0, 0, 0), persistent=True), answer_ns=SECOND)
    driver.run(MS)
    driver.client.stop()
    driver.act()
    assert [each.end_ns for each in driver.done] == [None, None]
    assert [each.number for each in driver.client.under_way()] == [0]
    assert not driver.client.is_finished


def test_a_lost_connection_is_a_failure_with_the_number_of_the_request() -> None:
    client = client_of(RequestResponse(), 1, seed=1, flow="f")
    client.start(0)
    client.closed(0, "connection reset")
    assert client.failures == ["request 0: connection reset"]
    assert client.take_done()[0].end_ns is None


def test_bytes_beyond_a_response_are_a_failure() -> None:
    client = client_of(RequestResponse(response=fixed(10)), 1, seed=1, flow="f")
    client.start(0)
    client.received(0, 11, 1)
    assert "belong to no request" in client.failures[0]


def test_objects_of_a_page_follow_its_document_over_all_connections() -> None:
    driver = Driver(Web(objects=6, count=2, think=fixed(100 * MS)), slots=3)
    driver.run(SECOND)
    assert [each.page for each in driver.done] == [0] * 7 + [1] * 7
    first = [each for each in driver.done if each.page == 0]
    assert [each.start_ns for each in first] == [0] + [10 * MS] * 6
    # six objects on three connections are two rounds
    assert [each.end_ns for each in first] == [10 * MS] + [20 * MS] * 3 + [30 * MS] * 3
    assert driver.done[7].start_ns == 130 * MS
    assert sorted(driver.opened) == [0, 1, 2]


def video(**changes: int) -> Video:
    values = {
        "chunk_ns": SECOND,
        "ladder_bps": (1_000_000, 2_000_000, 4_000_000),
        "playout_buffer_ns": 5 * SECOND,
        "startup_ns": SECOND,
    }
    return Video(**(values | changes))  # type: ignore[arg-type]


def test_a_player_takes_the_highest_rate_that_chunks_came_at() -> None:
    # 125 kB in 250 ms are 4 Mb/s, of which 85 % may be used
    driver = Driver(video(count=3), answer_ns=250 * MS)
    driver.run(20 * SECOND)
    assert [each.bitrate_bps for each in driver.done] == [1_000_000, 2_000_000, 4_000_000]
    assert [each.stall_ns for each in driver.done] == [0, 0, 0]
    assert [each.buffer_ns for each in driver.done] == [SECOND, 1750 * MS, 2500 * MS]


def test_a_player_fills_its_buffer_and_then_keeps_pace() -> None:
    driver = Driver(video(), answer_ns=10 * MS)
    driver.run(20 * SECOND)
    assert max(each.buffer_ns or 0 for each in driver.done) <= 5 * SECOND
    starts = [each.start_ns for each in driver.done[-5:]]
    assert [b - a for a, b in pairwise(starts)] == [SECOND] * 4


def test_playing_stands_still_while_a_chunk_is_late() -> None:
    driver = Driver(video(ladder_bps=(1_000_000,)), answer_ns=1_500 * MS)  # type: ignore[arg-type]
    driver.run(10 * SECOND)
    assert [each.stall_ns for each in driver.done[:4]] == [0, 500 * MS, 500 * MS, 500 * MS]


def test_messages_keep_their_rate() -> None:
    source = MessageSource(Messages(rate_bps=8_000, message=fixed(100)), 1, "f", 0, 0)
    assert [source.next(n, 0).start_ns for n in range(3)] == [0, 100 * MS, 200 * MS]


def test_messages_pause() -> None:
    workload = Messages(8_000, fixed(100), on=fixed(250 * MS), off=fixed(SECOND))
    source = MessageSource(workload, 1, "f", 0, 0)
    starts = [source.next(n, 0).start_ns for n in range(5)]
    assert starts == [0, 100 * MS, 200 * MS, 1_250 * MS, 1_350 * MS]


def test_a_sender_has_a_connection_for_each_slot_and_closes_them_at_its_count() -> None:
    driver = Driver(Messages(8_000, fixed(100), count=4), slots=2)
    driver.run(SECOND)
    assert driver.opened == [0, 1]
    assert [each.slot for each in driver.done] == [0, 1, 0, 1]
    assert driver.client.is_finished


@pytest.mark.parametrize(
    "distribution",
    [
        Distribution("uniform", 10, 20),
        Distribution("exponential", 1_000),
        Distribution("pareto", 1_000, 1.2),
        Distribution("lognormal", 1_000, 1.0),
        Distribution("values", values=(3, 4, 5)),
    ],
)
def test_the_same_seed_and_flow_draw_the_same(distribution: Distribution) -> None:
    def sizes(seed: int, flow: str) -> list[int]:
        client = client_of(RequestResponse(response=distribution, count=50), 1, seed, flow)
        client.start(0)
        drawn = []
        while client.under_way():
            (exchange,) = client.under_way()
            drawn.append(exchange.response_bytes)
            client.received(0, exchange.response_bytes, 1)
        return drawn

    assert sizes(1, "a") == sizes(1, "a") != sizes(2, "a")
    assert sizes(1, "a") != sizes(1, "b")

"""What agents answer: an honest one is understood, whatever else is refused with its place."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.unit.remote.honest import facts

from mptcplab.linux.probes.diag import MptcpInfo, SocketSample
from mptcplab.remote.agent.sampling import plain_socket
from mptcplab.remote.answers import FACTS, SAMPLE, AnswerError, said

SOCKET = SocketSample(
    "ESTABLISHED",
    *("10.0.0.1", 40000, "10.0.0.2", 5001),
    outstanding_bytes=1448,
    receive_buffer_bytes=131072,
    send_buffer_bytes=None,
    mptcp=MptcpInfo(2**32 - 1, False, 2, 2**64 - 1, 2**63, 5, 0, 10, 20, 30),
)


def sample() -> dict[str, Any]:
    counters = {"rx_bytes": 1, "rx_packets": 2, "tx_bytes": 3, "tx_packets": 4}
    value = {
        "at_ns": 1,
        "tcp": [],
        "mptcp": [plain_socket(SOCKET)],
        "bytes": {"1": [2**40, 0]},
        "interfaces": {"eth0": {"at_ns": 1, "up": True} | counters},
        "rtt": {"a": 1000},
        "cpu": [1, 2],
    }
    result: dict[str, Any] = json.loads(json.dumps(value))
    return result


def test_a_socket_is_the_same_after_the_line() -> None:
    assert SAMPLE(sample(), "sample")["mptcp"] == [SOCKET]


def test_honest_facts_are_taken() -> None:
    assert FACTS(facts(), "facts") == facts()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["at_ns"], "1"),
        (["at_ns"], 2**70),
        (["at_ns"], True),
        (["mptcp"], {}),
        (["mptcp", 0], []),
        (["mptcp", 0, 0, 1], "not an address"),
        (["mptcp", 0, 2], [1]),
        (["interfaces", "eth0"], {"at_ns": 1}),
        (["interfaces", "eth0", "up"], "yes"),
        (["bytes"], {"1": None}),
        (["bytes"], {"1": 5}),
        (["cpu"], "busy"),
    ],
)
def test_nonsense_in_a_sample_is_refused(path: list[Any], value: Any) -> None:
    bent = copy.deepcopy(sample())
    place = bent
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(AnswerError, match=r"^sample"):
        SAMPLE(bent, "sample")


@pytest.mark.parametrize("name", sorted(facts()))
def test_facts_without_one_of_them_are_refused(name: str) -> None:
    bent = {key: value for key, value in facts().items() if key != name}
    with pytest.raises(AnswerError, match=f"lacks {name}"):
        FACTS(bent, "facts")


def test_escape_sequences_are_made_visible() -> None:
    bent: dict[str, Any] = facts() | {"hostname": "\x1b]0;owned\x07host"}
    assert FACTS(bent, "facts")["hostname"] == "\\x1b]0;owned\\x07host"


def test_an_error_shows_little_and_nothing_that_acts() -> None:
    with pytest.raises(AnswerError) as error:
        FACTS(facts() | {"root": "\x1b[31m" + "x" * 100_000}, "facts")
    assert len(str(error.value)) < 200
    assert str(error.value).isprintable()


def test_workers_say_what_they_may() -> None:
    honest = {"event": "done", "monotonic_ns": 5, "bytes": 7, "protocol": "mptcp"}
    assert said(honest | {"confirmed_bytes": 7}, "worker") == honest
    bent: Any
    for bent in (
        {"event": "surprise", "monotonic_ns": 5},
        {"event": "done", "monotonic_ns": 5, "bytes": 7},
        honest | {"protocol": "\x1b[0m"},
        [],
        "done",
    ):
        with pytest.raises(AnswerError):
            said(bent, "worker")


def test_ends_of_a_whole_flow_say_what_they_may() -> None:
    exchange = [0, 5, 100, 1000, 0, 7, 9, 1000, None, None, None, None]
    rows = {"event": "exchanges", "monotonic_ns": 5, "rows": [exchange]}
    assert said(rows, "worker", 2) == rows
    assert said({"event": "opening", "monotonic_ns": 5, "slot": 1}, "worker", 2)["slot"] == 1
    assert said({"event": "done", "monotonic_ns": 5, "sent": 3}, "worker", 1)["sent"] == 3
    bent: Any
    for bent in (
        {"event": "opening", "monotonic_ns": 5, "slot": 2},
        {"event": "opening", "monotonic_ns": 5, "slot": -1},
        {"event": "opening", "monotonic_ns": 5},
        rows | {"rows": [exchange[:-1]]},
        rows | {"rows": [[None, *exchange[1:]]]},
        {"event": "arrivals", "monotonic_ns": 5, "rows": [[1, "now"]]},
        {"event": "sent", "monotonic_ns": 5, "bytes": 3},
    ):
        with pytest.raises(AnswerError):
            said(bent, "worker", 2)

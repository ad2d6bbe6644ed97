"""The debug log of section 3.5, from the tables of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.times import SECOND

from mptcplab.results.debug_log import FILE, HEADER, debug_lines
from mptcplab.results.writer import RunWriter

SCENARIO: dict[str, Any] = {
    "flows": [{"name": "main", "source": "bliksem"}],
    "timeline": [
        {"at_ns": 2 * SECOND, "target": "link5", "verb": "up", "label": "second link joins"},
        {"at_ns": 4 * SECOND, "target": "link6", "verb": "down", "label": "first link fails"},
        {"at_ns": 6 * SECOND, "target": "link6", "verb": "up", "label": "first link returns"},
    ],
    "tunables": {"bliksem": {"debug": False}, "donder": {"debug": True}},
}


def event(at_s: float, name: str, subflow: int | None = None, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "time_ns": round(at_s * SECOND),
        "source": "mptcp",
        "event": name,
        "host": "donder",
        "flow": "main",
        "connection": 0,
        "subflow": subflow,
        "link": None if subflow is None else {0: "link6", 1: "link5", 2: "link6"}[subflow],
        "detail": None,
    }
    return row | more


def action(at_s: int, link: str, verb: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("host", "flow", "connection", "subflow"))
    return event(at_s, verb, **nothing) | {"source": "timeline", "link": link, "detail": "words"}


def tables(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    connection = {"host": "donder", "flow": "main", "connection": 0, "token": 0xC2B4E677}
    place = {"host": "donder", "flow": "main", "connection": 0}
    subflows = [
        place | {"subflow": n, "local": f"192.168.2{net}.2:5001", "remote": f"192.168.2{net}.1:{n}"}
        for n, net in ((0, 2), (1, 1), (2, 2))
    ]
    return {"events": events, "connections": [connection], "subflows": subflows}


SIMULATED = [
    event(0, "connection-accepted"),
    event(0, "connection-established"),
    event(0, "subflow-established", 0),
    action(2, "link5", "up"),
    event(2, "subflow-opening", 1),
    event(2.1, "subflow-established", 1),
    action(4, "link6", "down"),
    event(4, "address-removed", detail="address_id 0"),
    event(4, "subflow-closed", 0),
    action(6, "link6", "up"),
    event(6.1, "subflow-established", 2),
    event(8, "peer-finished"),
    event(8, "all-delivered"),
    event(8.1, "subflow-closed", 2),
    event(8.2, "connection-closed"),
    event(3, "subflow-established", 1, host="bliksem"),
]
LINUX = [
    event(0, "listener-created", flow=None, connection=None),
    event(0, "created", 0),
    event(0, "established", 0),
    event(0, "receiver-connected", source="testbed"),
    action(2, "link5", "up"),
    event(2.1, "subflow-established", 1),
    action(4, "link6", "down"),
    event(4, "endpoint-deleted", source="path-manager", flow=None, connection=None),
    event(4, "address-removed", detail="address ids 0 and 0"),
    event(4, "subflow-closed", 0),
    action(6, "link6", "up"),
    event(6.1, "subflow-established", 2),
    event(8, "receiver-done", source="testbed"),
    event(8.1, "subflow-closed", 2),
    event(8.2, "closed"),
]
LOG = """\
0-0       0.000000  donder    token 0xc2b4e677: created connection of main
1-1       0.000000  donder    token 0xc2b4e677: added subflow 1 on link6, 192.168.22.2:5001 to 192.168.22.1:0; now 1 subflow
2-0       2.000000  -         link5 up (second link joins)
2-2       2.100000  donder    token 0xc2b4e677: added subflow 2 on link5, 192.168.21.2:5001 to 192.168.21.1:1; now 2 subflows
3-0       4.000000  -         link6 down (first link fails)
3-0       4.000000  donder    token 0xc2b4e677: the peer withdrew address 0
3-1       4.000000  donder    token 0xc2b4e677: removed subflow 1 on link6, 192.168.22.2:5001 to 192.168.22.1:0; now 1 subflow
4-0       6.000000  -         link6 up (first link returns)
4-3       6.100000  donder    token 0xc2b4e677: added subflow 3 on link6, 192.168.22.2:5001 to 192.168.22.1:2; now 2 subflows
5-0       8.000000  donder    token 0xc2b4e677: the peer has no more to send
5-3       8.100000  donder    token 0xc2b4e677: removed subflow 3 on link6, 192.168.22.2:5001 to 192.168.22.1:2; now 1 subflow
5-0       8.200000  donder    token 0xc2b4e677: closed the connection"""  # noqa: E501


def test_both_testbeds_events_make_the_same_log_in_the_stages_of_table_4() -> None:
    assert debug_lines(SCENARIO, tables(SIMULATED)) == [HEADER, *LOG.splitlines()]
    assert debug_lines(SCENARIO, tables(LINUX)) == [HEADER, *LOG.splitlines()]


def test_it_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    for debug in (False, True):
        writer = RunWriter(tmp_path / f"debug-{debug}")
        writer.append("events", SIMULATED)
        tunables = {"donder": {"debug": debug}}
        writer.metadata({"scenario": SCENARIO | {"tunables": tunables}})
        folder = writer.finish(valid=True)
        assert (folder / FILE).exists() == debug
    assert (folder / FILE).read_text().startswith(HEADER)

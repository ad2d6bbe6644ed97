"""The log that ``tunables.debug`` asks for: what happened to connections, as in section 3.5.

``sysctl -w net.mptcp.mptcp_debug=1`` made the kernel of 2012 log tokens, subflows and how many of
them there were; the report wrote the stage of the experiment and the subflow before each line.
Here it follows from a run's tables, in the same words for every testbed:

    4-3          540.000135  donder    token 0xdd21f6d2: added subflow 3 on link6, ...

Stages are counted as in the report's table 4: 0 is the start, 1 begins with the first subflow, each
instant of the timeline begins another, and the last is the close.  Subflows are counted from 1; 0
is the connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

FILE: Final = "debug.log"
HEADER: Final = "stage-subflow  time (s)  host      what"

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]
_Key = tuple[str, str, int]
"""Host, flow, and connection of the flow."""

_ADDED: Final = ("established", "subflow-established")
_CLOSED: Final = ("closed", "connection-closed")
_DELIVERED: Final = ("all-delivered", "sender-done")
_ARRIVED: Final = ("peer-finished", "receiver-done")
_OURS: Final = ("mptcp", "tcp", "testbed")


def wanted_hosts(scenario: Mapping[str, Any]) -> set[str]:
    """Return the hosts of a scenario, as ``run.json`` has it, whose debug log is asked for."""
    return {host for host, tunables in scenario["tunables"].items() if tunables.get("debug")}


def debug_lines(scenario: Mapping[str, Any], tables: Tables) -> list[str]:
    """Return the lines of the log, in order of time, of the hosts whose log is asked for.

    ``tables`` are the rows of the run's ``events``, ``connections`` and ``subflows``.
    """
    hosts = wanted_hosts(scenario)
    log = _Log(scenario, tables)
    lines = [HEADER]
    for row in sorted(tables["events"], key=lambda row: int(row["time_ns"])):
        if row["source"] == "timeline" or row["host"] in hosts:
            lines += log.take(row)
    return lines


class _Log:
    """Reads events in order and keeps what the lines say besides: stage, subflows, tokens."""

    def __init__(self, scenario: Mapping[str, Any], tables: Tables) -> None:
        self._sources = {flow["name"]: flow["source"] for flow in scenario["flows"]}
        self._tokens: dict[_Key, int] = {}
        for row in tables["connections"]:
            if row["token"] is not None:
                self._tokens.setdefault(_key(row), row["token"])
        self._ends = {
            (_key(row), row["subflow"]): f"{row['local']} to {row['remote']}"
            for row in tables["subflows"]
        }
        self._due = {
            int(action["at_ns"]) for action in scenario["timeline"] if not action.get("repeated")
        }
        self._labels: dict[tuple[str, str], list[str]] = {}
        for action in scenario["timeline"]:
            place = action["target"], action["verb"]
            self._labels.setdefault(place, []).append(action["label"])
        self._subflows: dict[_Key, set[int]] = {}
        self._closing: set[_Key] = set()
        self._began = False

    def take(self, row: Row) -> list[str]:
        """Return the lines that an event makes."""
        if row["source"] == "timeline":
            return [_line(self._stage(row), 0, row, self._action(row))]
        if row["source"] not in _OURS or row["flow"] is None:
            return []
        lines = []
        key = _key(row)
        if key not in self._subflows:
            self._subflows[key] = set()
            what = f"created connection of {row['flow']}{_number(row)}"
            lines.append(_line(0, 0, row, f"{self._token(key)}{what}"))
        lines += self._said(row, key)
        return lines

    def _said(self, row: Row, key: _Key) -> Iterable[str]:
        event, token = row["event"], self._token(key)
        there = self._subflows[key]
        if self._closes(row):
            self._closing.add(key)
        if event in _ADDED and row["subflow"] is not None:
            self._began = True
            there.add(row["subflow"])
            text = f"added subflow {row['subflow'] + 1}{self._where(row, key)}; {_count(there)}"
            yield _line(self._stage(row), row["subflow"] + 1, row, token + text)
        elif event == "subflow-closed" and row["subflow"] is not None:
            there.discard(row["subflow"])
            text = f"removed subflow {row['subflow'] + 1}{self._where(row, key)}; {_count(there)}"
            yield _line(self._stage(row), row["subflow"] + 1, row, token + text)
        elif event in ("address-announced", "address-removed"):
            verb = "announced" if event.endswith("announced") else "withdrew"
            text = f"the peer {verb} {_address(row['detail'])}"
            yield _line(self._stage(row), 0, row, token + text)
        elif event == "fallback":
            yield _line(self._stage(row), 0, row, f"{token}fell back to TCP")
        elif event in _CLOSED:
            yield _line(self._stage(row), 0, row, f"{token}closed the connection")
        elif event in _DELIVERED and self._closes(row):
            yield _line(self._stage(row), 0, row, f"{token}all that was written has arrived")
        elif event in _ARRIVED and self._closes(row):
            yield _line(self._stage(row), 0, row, f"{token}the peer has no more to send")

    def _closes(self, row: Row) -> bool:
        """Return whether an event is of the end of the flow's data, or of the connection."""
        ends = _DELIVERED if row["host"] == self._sources[row["flow"]] else _ARRIVED
        return row["event"] in (*ends, *_CLOSED)

    def _action(self, row: Row) -> str:
        target = row["link"] or row["flow"] or row["host"]
        labels = self._labels.get((target, row["event"]), [])
        label = labels.pop(0) if labels else ""
        return f"{target} {row['event']}" + (f" ({label})" if label else "")

    def _stage(self, row: Row) -> int:
        """Return the stage at an event's time."""
        if row["flow"] is not None and _key(row) in self._closing:
            return 2 + len(self._due)
        now_ns = int(row["time_ns"])
        passed = sum(at_ns <= now_ns for at_ns in self._due)
        return (1 if self._began else 0) + passed

    def _where(self, row: Row, key: _Key) -> str:
        link = f" on {row['link']}" if row["link"] else ""
        ends = self._ends.get((key, row["subflow"]))
        return link + (f", {ends}" if ends else "")

    def _token(self, key: _Key) -> str:
        token = self._tokens.get(key)
        return "" if token is None else f"token 0x{token:08x}: "


def _key(row: Row) -> _Key:
    return row["host"], row["flow"], row["connection"] or 0


def _line(stage: int, subflow: int, row: Row, what: str) -> str:
    return f"{stage}-{subflow}  {row['time_ns'] / 1e9:13.6f}  {row['host'] or '-':8}  {what}"


def _count(subflows: set[int]) -> str:
    return f"now {len(subflows)} subflow{'' if len(subflows) == 1 else 's'}"


def _number(row: Row) -> str:
    return f"/{row['connection'] + 1}" if row["connection"] else ""


def _address(detail: str | None) -> str:
    found = re.search(r"address_id (\d+)|address ids \d+ and (\d+)", detail or "")
    return f"address {found[1] or found[2]}" if found else "an address"

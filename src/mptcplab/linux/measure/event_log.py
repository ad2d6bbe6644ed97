"""The run's ``events`` table: what happened, when and on which host; shown while it happens."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from typing import Any

from mptcplab.linux.measure.identity import Identities, Subflow
from mptcplab.linux.measure.sampler import socket_name
from mptcplab.linux.measure.timeline import describe
from mptcplab.linux.path_management.link_aware import Change
from mptcplab.linux.probes.pm_events import PathManagerEvent
from mptcplab.linux.traffic.flow import Connection
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.results.observer import Observer
from mptcplab.scenario.model import Action

_ANNOUNCED = ("subflow-established", "subflow-closed")


class EventLog:
    """Gathers events on the monotonic clock; the run's start on it, once known, makes them rows."""

    def __init__(self, observer: Observer, identities: Identities) -> None:
        self.origin_ns: int | None = None
        self._observer = observer
        self._identities = identities
        self._events: list[tuple[int, dict[str, Any]]] = []

    def add(
        self,
        monotonic_ns: int,
        source: str,
        event: str,
        *,
        announce: str = "",
        **columns: str | int | None,
    ) -> None:
        """Write one event down; ``announce`` is what the observer shows of it."""
        self._events.append((monotonic_ns, {"source": source, "event": event, **columns}))
        if announce and self.origin_ns is not None:
            self._observer.event(monotonic_ns - self.origin_ns, announce)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the ``events`` table in order of time."""
        origin_ns = self.origin_ns or 0
        ordered = sorted(self._events, key=lambda event: event[0])
        return [{"time_ns": at_ns - origin_ns, **columns} for at_ns, columns in ordered]

    def action(self, action: Action, monotonic_ns: int, problem: str) -> None:
        """Note an action of the timeline, done or failed."""
        late_ms = (monotonic_ns - (self.origin_ns or 0) - action.at_ns) / 1e6
        detail = f"{describe(action)}; {late_ms:.3f} ms after its time"
        announce = action.label or describe(action)
        if problem:
            detail += f"; failed: {problem}"
            announce += f": failed: {problem}"
        self.add(
            monotonic_ns,
            "timeline",
            action.verb,
            announce=announce,
            link=action.target if action.target_kind == "link" else None,
            flow=action.target if action.target_kind == "flow" else None,
            host=action.host,
            detail=detail,
        )

    def endpoint(self, monotonic_ns: int, change: Change) -> None:
        """Note what the link-aware path manager did."""
        verb = "endpoint-added" if change.added else "endpoint-deleted"
        detail = change.address + (f": {change.problem}" if change.problem else "")
        self.add(monotonic_ns, "path-manager", verb, host=change.host, detail=detail)

    def path_manager_event(self, host: str, event: PathManagerEvent) -> None:
        """Note an event of the kernel's path manager, with the flow it concerns where known."""
        columns: dict[str, str | int | None] = {"host": host}
        connection = self._connection(host, event)
        if connection is not None:
            columns |= {"flow": connection.flow.name, "connection": connection.index}
        local, remote = (
            _name(event.local_address, event.local_port),
            _name(event.remote_address, event.remote_port),
        )
        of_subflow = "subflow" in event.name or event.name in ("created", "established")
        if connection is not None and local and remote and of_subflow:
            assert event.local_address is not None
            assert event.remote_address is not None
            is_client = self._identities.is_client(host, connection)
            subflow = self._identities.subflow(
                connection,
                is_client,
                (event.local_address, event.local_port or 0),
                (event.remote_address, event.remote_port or 0),
            )
            columns |= {"subflow": subflow.index, "link": subflow.link}
        details = [f"{local} {remote}".strip()]
        if event.remote_id is not None:
            details.append(f"address ids {event.local_id or 0} and {event.remote_id}")
        if event.error:
            name = errno.errorcode.get(event.error, str(event.error))
            details.append(f"{name}: {os.strerror(event.error)}")
        if event.reset_reason:
            details.append(f"reset reason {event.reset_reason}")
        columns["detail"] = "; ".join(part for part in details if part)
        announce = ""
        if (
            event.name in _ANNOUNCED
            and connection is not None
            and self._identities.is_client(host, connection)
        ):
            where = f" on {columns['link']}" if columns.get("link") else ""
            announce = f"{connection.flow.name}: {event.name.replace('-', ' ')}{where}"
        self.add(event.monotonic_ns, "mptcp", event.name, announce=announce, **columns)

    def stack_event(
        self,
        host: str,
        connection: Connection,
        subflow: Subflow | None,
        event: str,
        monotonic_ns: int,
        detail: str,
    ) -> None:
        """Note an event of our own stack; its client's are announced, as the kernel's are."""
        columns: dict[str, str | int | None] = {
            "host": host,
            "flow": connection.flow.name,
            "connection": connection.index,
            "detail": detail,
        }
        if subflow is not None:
            columns |= {"subflow": subflow.index, "link": subflow.link}
        announce = ""
        if event in _ANNOUNCED and host == client_and_server(connection.flow)[0]:
            where = f" on {columns['link']}" if columns.get("link") else ""
            announce = f"{connection.flow.name}: {event.replace('-', ' ')}{where}"
        self.add(monotonic_ns, "mptcp", event, announce=announce, **columns)

    def answer(self, connection: Connection, role: str, answer: Mapping[str, Any]) -> None:
        """Note what a process of a flow said of its connection."""
        event = str(answer["event"])
        columns: dict[str, str | int | None] = {
            "flow": connection.flow.name,
            "connection": connection.index,
            "host": connection.flow.source if role == "sender" else connection.flow.destination,
        }
        announce = ""
        if event == "connected":
            columns["detail"] = (
                f"{answer['local']} to {answer['remote']}, {answer['protocol']}, buffers "
                f"{answer['send_buffer_bytes']} (send) {answer['receive_buffer_bytes']} (receive)"
            )
        elif event in ("failed", "corrupt"):
            columns["detail"] = str(answer.get("text", ""))
            announce = f"{connection.flow.name}: {role} {event}: {columns['detail']}"
        elif event == "done":
            columns["detail"] = f"{answer.get('bytes', 0)} bytes"
        elif event == "path":
            columns |= {"link": answer["link"], "detail": f"to {answer['remote']}"}
            self.add(
                int(answer["monotonic_ns"]),
                "sctp",
                f"path-{answer['state']}",
                announce=f"{connection.flow.name}: path over {answer['link']} {answer['state']}",
                **columns,
            )
        if event in ("connected", "failed", "corrupt", "done"):
            at_ns = int(answer.get("monotonic_ns", 0)) or time.monotonic_ns()
            self.add(at_ns, "testbed", f"{role}-{event}", announce=announce, **columns)

    def _connection(self, host: str, event: PathManagerEvent) -> Connection | None:
        if event.local_port is not None and event.remote_port is not None:
            known = self._identities.connection(host, event.local_port, event.remote_port)
            if known is not None:
                if event.token is not None:
                    self._identities.remember_token(host, event.token, known[0].port)
                return known[0]
        return None if event.token is None else self._identities.by_token(host, event.token)


def _name(address: str | None, port: int | None) -> str:
    return "" if address is None else socket_name(address, port or 0)

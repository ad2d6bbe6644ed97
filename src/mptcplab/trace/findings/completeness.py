"""What of a connection its capture does not hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mptcplab.trace.connections.model import Connection
from mptcplab.trace.findings.series import data_acks


@dataclass(frozen=True, slots=True)
class Completeness:
    """What is missing of a connection."""

    uncaptured_bytes: tuple[int, int]
    """By the side that sent: acknowledged at the data level, but on no subflow of the capture."""
    dropped_bytes: tuple[int, int]
    """By the side that sent: acknowledged on a subflow of the capture that does not hold them."""
    scale_known: bool
    """Whether the SYNs of all subflows that carried data were captured, which state the scale of
    windows."""

    def to_json(self) -> dict[str, object]:
        """Return it as part of a JSON object."""
        return {
            "uncaptured_bytes": list(self.uncaptured_bytes),
            "dropped_bytes": list(self.dropped_bytes),
            "window_scale_known": self.scale_known,
        }


def completeness(connection: Connection) -> Completeness:
    """Return what is missing of a connection."""
    carriers = [subflow for subflow in connection.subflows if subflow.bytes]
    return Completeness(
        uncaptured_bytes=(_uncaptured(connection, 0), _uncaptured(connection, 1)),
        dropped_bytes=(_dropped(connection, 0), _dropped(connection, 1)),
        scale_known=all(half.seen.syn_ns for subflow in carriers for half in subflow.halves),
    )


def _dropped(connection: Connection, side: int) -> int:
    return sum(subflow.half(side).missing_bytes for subflow in connection.subflows)


def _uncaptured(connection: Connection, side: int) -> int:
    """Return the bytes that a DATA_ACK covers and no subflow of the capture carried."""
    base = connection.data_bases[side]
    if base is None or connection.fallback:
        return 0
    acked = _acknowledged(connection, side, base)
    if acked is None:
        return 0
    first, last = acked
    starts = np.concatenate([subflow.half(side).data_rel for subflow in connection.subflows])
    sizes = np.concatenate([subflow.half(side).extents["bytes"] for subflow in connection.subflows])
    low = 1 if connection.idsns[side] is not None else first
    fin = 1 if side in connection.ended else 0
    stops = np.minimum(starts + sizes, last)
    starts = np.maximum(starts, low)
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], stops[order]
    reach = np.maximum.accumulate(np.append(low, stops))[:-1]
    covered = int(np.maximum(stops - np.maximum(starts, reach), 0).sum())
    missing = max(0, last - low - covered)
    missing = max(0, missing - fin)
    hidden = _dropped(connection, side) + sum(
        subflow.half(side).unplaced_bytes + subflow.half(side).unmapped_bytes
        for subflow in connection.subflows
    )
    return max(0, missing - hidden)


def _acknowledged(connection: Connection, side: int, base: int) -> tuple[int, int] | None:
    """Return the first and the last DATA_ACK of what ``side`` sent, relative."""
    answers = [subflow.half(side ^ 1) for subflow in connection.subflows]
    _, number, _ = data_acks(answers, [0] * len(answers), base)
    number = number[number >= 0]
    return (int(number[0]), int(number.max())) if number.size else None

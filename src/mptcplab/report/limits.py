"""What held the connections of a run back, as text and beside the rest that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any, Final

from mptcplab.limits.causes import Limit
from mptcplab.limits.runs import WAITING, Diagnosis, run_limits
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise
from mptcplab.text_table import text_width

_SHOWN: Final = 8
"""Connections that are told of one by one; ``--json`` has all."""
_LEAST_SHARE: Final = 0.005
"""What takes less of the time is not shown."""


def summary_with_limits(run: Run) -> dict[str, Any]:
    """Return the object that ``mptcplab run --json`` prints."""
    return summarise(run) | {"limits": as_json(every_limit(run_limits(run)))}


def every_limit(diagnoses: Sequence[Diagnosis]) -> list[Limit]:
    """Return the limits of all connections, each connection's together."""
    return [limit for diagnosis in diagnoses for limit in diagnosis.limits]


def as_json(limits: Sequence[Limit]) -> list[dict[str, str | float]]:
    """Return limits as ``--json`` has them."""
    return [limit.to_json() for limit in limits]


def limits_text(limits: Sequence[Limit], title: str = "What held the connections back") -> str:
    """Return a line for each connection that says what it waited for most, and then the shares.

    Empty where there is none.
    """
    by_connection: dict[tuple[str, str], list[Limit]] = {}
    for limit in limits:
        by_connection.setdefault((limit.connection, limit.direction), []).append(limit)
    if not by_connection:
        return ""
    lines, width = [title], text_width()
    for several in list(by_connection.values())[:_SHOWN]:
        lines += wrap(headline(several), width, initial_indent="  ", subsequent_indent="    ")
        lines += wrap(_shares(several), width, initial_indent="    ", subsequent_indent="    ")
    left_out = len(by_connection) - _SHOWN
    if left_out > 0:
        lines.append(f"  and {left_out} more connections, which --json has")
    return "\n".join(lines)


def headline(limits: Sequence[Limit]) -> str:
    """Return one line on a connection: what it waited for most of the time, and what would do."""
    first = limits[0]
    text = f"{first.connection}: {first.share:.0%} of the time {WAITING[first.cause]}"
    if first.detail:
        text += f" ({first.detail})"
    return f"{text}: {first.advice}" if first.advice else text


def _shares(limits: Sequence[Limit]) -> str:
    shown = [limit for limit in limits if limit.share >= _LEAST_SHARE] or limits[:1]
    return ", ".join(f"{limit.cause.value} {limit.share:.1%}" for limit in shown)

"""What the ways of ``mptcplab inspect`` print alike: of finished captures, and of growing ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptcplab.trace.connections.model import Connection
    from mptcplab.trace.packet_filter import Test
    from mptcplab.trace.trace import Trace
    from mptcplab.trace.two_captures import Ends


def check_readable(trace: Trace) -> None:
    """Raise ``CaptureError`` where nothing but damage was read."""
    from mptcplab.trace.files.batch import CaptureError
    from mptcplab.trace.files.sources import source_name

    if not trace.packets and trace.malformed:
        names = ", ".join(map(source_name, trace.paths))
        raise CaptureError(f"{names}: holds no whole packet: {trace.malformed[0].reason}")


def chosen(args: argparse.Namespace, trace: Trace) -> list[Connection]:
    """Return the connections that were asked for."""
    from mptcplab.trace.files.batch import CaptureError

    if args.connection is None:
        return trace.connections
    if not 0 <= args.connection < len(trace.connections):
        raise CaptureError(
            f"--connection {args.connection}: MPTCP connections are numbered from 0, and the "
            f"capture has {len(trace.connections)}"
        )
    return [trace.connections[args.connection]]


def of_connection(args: argparse.Namespace, test: Test | None) -> Test | None:
    """Return the test that also asks for the chosen connection."""
    if args.connection is None:
        return test
    from mptcplab.trace.packet_filter import parse_filter

    mine = parse_filter(f"connection == {args.connection}")
    return mine if test is None else lambda columns: mine(columns) & test(columns)


def told(
    args: argparse.Namespace,
    trace: Trace,
    connections: list[Connection],
    ends: Ends | None = None,
) -> Iterable[str]:
    """Return what is known of a capture in the form that was asked for."""
    if args.json:
        from mptcplab.cli.json_lines import Streamed, json_lines
        from mptcplab.trace.output.to_json import to_json

        return json_lines(to_json(trace, ends, Streamed))
    if args.connections:
        from mptcplab.trace.output.connection_table import DEFAULT_ROWS, connection_lines

        return connection_lines(trace, args.sort, args.limit or DEFAULT_ROWS)
    from mptcplab.trace.output.explain import event_lines, explain_connection, explanation

    if args.events:
        return event_lines(trace, connections)
    if args.connection is not None:
        return explain_connection(trace, connections[0])
    return explanation(trace)


def print_all(lines: Iterable[str]) -> None:
    """Print lines, or blocks of lines, to standard output."""
    for line in lines:
        print(line)
    sys.stdout.flush()

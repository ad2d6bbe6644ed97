"""``mptcplab inspect --follow`` and ``-i``: captures that are still being made."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mptcplab.cli.inspect_output import check_readable, chosen, of_connection, print_all, told
from mptcplab.cli.terminal import unfiltered
from mptcplab.cli.verbosity import NORMAL, is_told, say
from mptcplab.trace.decode.segments import Segments
from mptcplab.trace.files.batch import Batch, CaptureError
from mptcplab.trace.files.interface import InterfaceSource, drop_rights
from mptcplab.trace.files.sources import Source, source_name
from mptcplab.trace.files.writing import CaptureWriter
from mptcplab.trace.follow.tcp import Followed
from mptcplab.trace.live import Bounds, Hooks, Watch
from mptcplab.trace.output.explain import event_lines
from mptcplab.trace.packet_filter import Test
from mptcplab.trace.packets import LiveBatches
from mptcplab.trace.trace import Trace
from mptcplab.units import UnitError, parse_duration


def inspect_live(args: argparse.Namespace, test: Test | None) -> int:
    """Read until the capture ends, then print all that was asked for; returns 0.

    Raises ``CaptureError`` for what cannot be captured or read.
    """
    for name in ("tables", "figures"):
        if getattr(args, name) is not None:
            raise CaptureError(
                f"--{name}: is made of a finished capture; write one with -w and inspect that"
            )
    with ExitStack() as stack:
        shown = _Shown(args, of_connection(args, test))
        path = args.captures[0] if args.captures else Path(args.interface)
        watch = Watch(path, Bounds(args.count, _seconds(args.duration)), shown.hooks())
        source: Source | None = None
        if args.interface is not None:
            interface = InterfaceSource(args.interface, watch.more_comes)
            stack.callback(interface.close)
            drop_rights()
            interface.start()
            source = interface
        if args.write is not None:
            shown.writer = CaptureWriter(args.write, [path])
        name = source.name if source is not None else source_name(path)
        say(f"reading from {name}; Ctrl-C ends")
        trace = watch.run(source)
    check_readable(trace)
    shown.finish(trace)
    if isinstance(source, InterfaceSource) and source.dropped:
        print(f"the kernel dropped {source.dropped:,} packets: too many came", file=sys.stderr)
    return 0


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text) / 1e9
    except UnitError as error:
        raise CaptureError(f"--duration: {error}") from None


class _Shown:
    """What is printed and written while packets come."""

    def __init__(self, args: argparse.Namespace, test: Test | None) -> None:
        self.writer: CaptureWriter | None = None
        self._args = args
        self._test = test
        self._lists_packets = args.packets or (args.filter is not None and args.write is None)
        self._live = LiveBatches()
        self._printed: set[str] = set()
        self._last: list[str] = []
        self._status = sys.stderr.isatty() and is_told(NORMAL)

    def hooks(self) -> Hooks:
        """Return what is to be called."""
        each = self._lists_packets or self._args.write is not None
        return Hooks(self._refreshed, self._arrived if each else None)

    def finish(self, trace: Trace) -> None:
        """Print what remains to be said at the end."""
        self._clear()
        if self.writer is not None:
            self.writer.close()
            say(self.writer.description)
        if self._lists_packets:
            return
        if self._args.events:
            self._print_events(list(event_lines(trace, chosen(self._args, trace))))
            return
        print_all(told(self._args, trace, chosen(self._args, trace)))

    def _refreshed(self, trace: Trace) -> None:
        """Print events that two explanations in a row agree on, and how much there is."""
        self._clear()
        if not (self._lists_packets or self._args.json or self._args.connections):
            lines = list(event_lines(trace, trace.connections))
            before = set(self._last)
            self._print_events([line for line in lines if line in before])
            self._last = lines
        if self._status:
            print(
                f"{trace.packets:,} packets, {len(trace.connections):,} MPTCP connections, "
                f"{len(trace.subflows):,} subflows",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def _print_events(self, lines: list[str]) -> None:
        fresh = [line for line in lines if line not in self._printed]
        self._printed.update(fresh)
        print_all(fresh)

    def _arrived(
        self, trace: Trace, batch: Batch, segments: Segments, followed: Followed | None
    ) -> None:
        if self._test is None and self.writer is not None:
            self.writer.write(batch)
        if len(segments) and (self._lists_packets or self._test is not None):
            packets = self._live.batch(trace, segments, followed)
            rows = np.arange(len(packets))
            if self._test is not None:
                rows = np.flatnonzero(self._test(packets))
                if self.writer is not None:
                    self.writer.write(batch.take(segments.row[rows]))
            if self._lists_packets:
                self._clear()
                print_all(packets.lines(rows))
        if self.writer is not None:
            self.writer.flush()

    def _clear(self) -> None:
        if self._status:
            print("\r\033[K", end="", file=unfiltered(sys.stderr), flush=True)

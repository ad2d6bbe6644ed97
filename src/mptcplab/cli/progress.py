"""What is shown during a run: the phase, then the rate of each link."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mptcplab.cli.terminal import unfiltered
from mptcplab.cli.verbosity import NORMAL, VERBOSE, is_told, say
from mptcplab.plain_text import printable
from mptcplab.results.observer import Observer
from mptcplab.units import NANOSECONDS, format_duration, format_rate

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live


class PlainProgress(Observer):
    """One line per interval on stderr, for logs and pipes."""

    def __init__(self, duration_ns: int) -> None:
        """Take the run's duration, to show how far it is."""
        self._duration_s = duration_ns / NANOSECONDS

    def phase(self, name: str) -> None:
        """Print the phase."""
        self._say(f"[{name}]")

    def tick(
        self,
        time_ns: int,
        flows_bps: Mapping[str, float],
        links_bps: Mapping[str, tuple[float, float]],
        rtt_ns: Mapping[str, int | None],
    ) -> None:
        """Print the goodput and every link's busier direction."""
        links = "  ".join(
            f"{name} {format_rate(max(both))}{_rtt(rtt_ns.get(name))}"
            for name, both in links_bps.items()
        )
        goodput = format_rate(sum(flows_bps.values()))
        at = f"{time_ns / NANOSECONDS:7.1f}/{self._duration_s:g} s"
        self._say(f"{at}  goodput {goodput}  {links}")

    def event(self, time_ns: int, text: str) -> None:
        """Print the event."""
        self._say(f"{time_ns / NANOSECONDS:7.1f} s  {printable(text)}")

    def close(self) -> None:
        """Nothing is left open."""

    def _say(self, line: str) -> None:
        say(line)


def _rtt(rtt_ns: int | None) -> str:
    return "" if rtt_ns is None else f" (RTT {format_duration(rtt_ns)})"


class LiveProgress(Observer):
    """A table that is redrawn in a terminal: goodput, links, RTTs and the last events."""

    EVENTS_SHOWN = 5

    def __init__(self, title: str, duration_ns: int) -> None:
        """Take the run's title and duration."""
        self._title = printable(title)
        self._duration_ns = duration_ns
        self._phase = "starting"
        self._time_ns = 0
        self._flows: dict[str, float] = {}
        self._links: dict[str, tuple[float, float]] = {}
        self._rtts: dict[str, int | None] = {}
        self._events: list[str] = []
        self._live: Live | None = None

    def phase(self, name: str) -> None:
        """Show the phase; the display opens at the first one."""
        self._phase = name
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=unfiltered(sys.stderr))
            self._live = Live(console=console, auto_refresh=False, transient=True)
            with suppress(OSError):
                self._live.start()
        self._redraw()

    def tick(
        self,
        time_ns: int,
        flows_bps: Mapping[str, float],
        links_bps: Mapping[str, tuple[float, float]],
        rtt_ns: Mapping[str, int | None],
    ) -> None:
        """Show one interval."""
        self._time_ns = time_ns
        self._flows, self._links, self._rtts = dict(flows_bps), dict(links_bps), dict(rtt_ns)
        self._redraw()

    def event(self, time_ns: int, text: str) -> None:
        """Show the event under the table, among the last few."""
        self._events.append(f"{time_ns / NANOSECONDS:8.2f} s  {printable(text)}")
        del self._events[: -self.EVENTS_SHOWN]
        self._redraw()

    def close(self) -> None:
        """Remove the display."""
        if self._live is not None:
            with suppress(OSError):  # the terminal is closed
                self._live.stop()
            self._live = None

    def _redraw(self) -> None:
        if self._live is not None:
            with suppress(OSError):  # the terminal is closed; the run goes on
                self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading, justify in (("link", "left"), ("forward", "right"), ("backward", "right")):
            table.add_column(heading, justify="right" if justify == "right" else "left")
        table.add_column("RTT", justify="right")
        for name, (forward, backward) in self._links.items():
            rtt = self._rtts.get(name)
            table.add_row(
                name,
                format_rate(forward),
                format_rate(backward),
                "" if rtt is None else format_duration(rtt),
            )
        goodput = sum(self._flows.values())
        clock = f"{self._time_ns / NANOSECONDS:.1f} of {self._duration_ns / NANOSECONDS:g} s"
        return Group(
            Text(f"{self._title}: {self._phase}", style="bold"),
            ProgressBar(total=max(self._duration_ns, 1), completed=self._time_ns, width=60),
            Text(f"{clock}   goodput {format_rate(goodput)}"),
            table,
            *(Text(line, style="dim") for line in self._events),
        )


def progress_for(title: str, duration_ns: int) -> PlainProgress | LiveProgress:
    """Return the live display in a terminal, plain lines elsewhere and for -v; -q drops both."""
    if sys.stderr.isatty() and is_told(NORMAL) and not is_told(VERBOSE):
        return LiveProgress(title, duration_ns)
    return PlainProgress(duration_ns)

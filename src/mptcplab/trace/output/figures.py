"""Figures of a connection, as PNG and SVG, after those of the report and of mptcptrace.

``throughput`` has each subflow's throughput above the receive window, dips marked with their cause
(figure 30); ``windows`` shows the window that each subflow advertises (figure 32); ``dsn`` the data
sequence numbers coloured by the subflow that carried them; ``rtt`` the round trips.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mptcplab.trace.connections.model import Connection, Subflow
from mptcplab.trace.findings.dips import Dip, find_dips
from mptcplab.trace.findings.events import LOST, NEW_ADDRESS, RESUMED, RETURNED
from mptcplab.trace.findings.series import Series, direction
from mptcplab.trace.findings.throughput import bin_ns, busiest, throughput
from mptcplab.trace.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, distinct with any colour vision."""

_MOST_POINTS: Final = 20_000
_MARKED: Final = {NEW_ADDRESS: "joins", LOST: "lost", RESUMED: "returns", RETURNED: "returns"}
_MOST_MARKED_DIPS: Final = 6


def draw_busiest(
    trace: Trace, connections: list[Connection], folder: Path, most: int
) -> tuple[list[Path], int]:
    """Draw the figures of the ``most`` connections that have the most data.

    Returns the files, and how many connections they are of.  Raises ``OSError`` as ``draw`` does.
    """
    busiest = sorted(connections, key=lambda connection: -connection.bytes)[:most]
    busiest.sort(key=lambda connection: connection.number)
    return [path for one in busiest for path in draw(trace, one, folder)], len(busiest)


def draw(trace: Trace, connection: Connection, folder: Path) -> list[Path]:
    """Draw all figures of a connection's busier direction into ``folder``; returns the files.

    Raises ``OSError`` where the folder cannot be written.
    """
    side = connection.busier_side
    series = direction(connection, side)
    if series is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {
        "throughput": _throughput(trace, connection, series),
        "windows": _windows(trace, connection, series),
        "dsn": _dsn(trace, connection, side),
        "rtt": _rtt(trace, connection, side),
    }
    written = []
    for name, figure in drawings.items():
        for kind in ("png", "svg"):
            path = folder / f"connection-{connection.number}-{name}.{kind}"
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(path, dpi=130, metadata=metadata)
            written.append(path)
    return written


def _figure(panels: int, heights: tuple[int, ...]) -> tuple[Figure, list[Axes]]:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "mptcplab"  # the same figure twice is the same file
    figure = Figure(figsize=(9, 1.2 + 1.5 * sum(heights)), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=heights, squeeze=False)
    for axis in axes[:, 0]:
        axis.grid(alpha=0.25)
        for edge in ("top", "right"):
            axis.spines[edge].set_visible(False)
    return figure, list(axes[:, 0])


def _colour(subflow: Subflow) -> str:
    return COLOURS[subflow.number % len(COLOURS)]


def _label(subflow: Subflow) -> str:
    return f"subflow {subflow.number}: {subflow.source} to {subflow.destination}"


def _seconds(trace: Trace, time_ns: Any) -> Any:
    return (time_ns - trace.first_ns) / 1e9


def _scaled(largest: float, unit: str) -> tuple[float, str]:
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if largest >= size:
            return size, prefix + unit
    return 1.0, unit


def _mark_events(trace: Trace, connection: Connection, axis: Axes, side: int) -> None:
    """Mark when subflows joined, were lost and returned."""
    for event in connection.events:
        word = _MARKED.get(event.kind)
        if word is None or event.subflow is None:
            continue
        if event.kind in (LOST, RESUMED) and event.side != side:
            continue
        when = trace.seconds(event.time_ns)
        colour = COLOURS[event.subflow % len(COLOURS)]
        axis.axvline(when, color=colour, linestyle=":", linewidth=1)
        axis.annotate(
            f"{event.subflow} {word}", (when, 1.0), xycoords=("data", "axes fraction"),
            xytext=(2, -2), textcoords="offset points", fontsize=7, color=colour, va="top",
            rotation=90,
        )  # fmt: skip


def _legend(axis: Axes, marker_scale: float = 1.0) -> None:
    axis.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        fontsize=8,
        frameon=False,
        markerscale=marker_scale,
    )


def _title(figure: Figure, connection: Connection, what: str) -> None:
    source, destination = connection.subflows[0].ends
    figure.suptitle(f"{what}: connection {connection.number}, {source} to {destination}", size=10)


def _throughput(trace: Trace, connection: Connection, series: Series) -> Figure:
    figure, (above, below) = _figure(2, (3, 2))
    side = series.side
    start, end = connection.start_ns, connection.end_ns
    width = bin_ns(end - start)
    count = max(1, -(-(end - start) // width))
    subflows = busiest(connection, side)
    each = throughput(subflows, side, start, width, count)
    middle = _seconds(trace, start + (np.arange(count) + 0.5) * width)
    scale, unit = _scaled(float(np.sum(each, axis=0).max(initial=0)), "b/s")
    for subflow, bps in zip(subflows, each, strict=True):
        above.plot(middle, bps / scale, color=_colour(subflow), lw=1, label=_label(subflow))
    if len(each) > 1:
        above.plot(middle, np.sum(each, axis=0) / scale, color="0.45", lw=1, label="all subflows")
    above.set_ylabel(f"throughput ({unit})")
    above.set_ylim(bottom=0)
    scale, unit = _scaled(float(series.window_bytes.max(initial=0)), "B")
    below.plot(_seconds(trace, series.time_ns), series.window_bytes / scale, color="0.2", lw=1)
    below.set_ylabel(f"receive window ({unit})")
    below.set_xlabel("time (s)")
    below.set_ylim(bottom=0)
    _mark_events(trace, connection, above, side)
    dips = find_dips(connection, series)
    _mark_dips(trace, figure, (above, below), dips)
    _legend(above)
    _title(figure, connection, "Throughput and window")
    return figure


def _mark_dips(trace: Trace, figure: Figure, axes: tuple[Axes, Axes], dips: list[Dip]) -> None:
    """Shade every dip; number the deepest ones and print their causes below."""
    deepest = sorted(dips, key=lambda dip: dip.bps / dip.usual_bps)[:_MOST_MARKED_DIPS]
    deepest.sort(key=lambda dip: dip.start_ns)
    for dip in dips:
        start = trace.seconds(dip.start_ns)
        for axis in axes:
            axis.axvspan(start, start + dip.duration_ns / 1e9, color="#D55E00", alpha=0.15, lw=0)
    lines = []
    for number, dip in enumerate(deepest, 1):
        middle = trace.seconds(dip.start_ns) + dip.duration_ns / 2e9
        axes[1].annotate(
            str(number), (middle, 1.0), xycoords=("data", "axes fraction"), ha="center",
            fontsize=7, va="bottom",
        )  # fmt: skip
        text = f"{number}  {trace.seconds(dip.start_ns):.2f} s  {dip.cause}"
        lines.append("\n".join(wrap(text, 150, subsequent_indent="     ")))
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=7, ha="left", x=0.01)


def _windows(trace: Trace, connection: Connection, series: Series) -> Figure:
    figure, (axis,) = _figure(1, (3,))
    tops = [1.0]
    subflows = busiest(connection, series.side)
    rows = [(subflow, subflow.half(series.side ^ 1).samples) for subflow in subflows]
    tops += [float(samples["window_bytes"].max()) for _, samples in rows if samples.size]
    scale, unit = _scaled(max(tops), "B")
    for subflow, samples in rows:
        if samples.size:
            axis.step(
                _seconds(trace, samples["time_ns"]), samples["window_bytes"] / scale, where="post",
                color=_colour(subflow), lw=1, label=_label(subflow),
            )  # fmt: skip
    axis.set_ylabel(f"advertised window ({unit})")
    axis.set_xlabel("time (s)")
    axis.set_ylim(bottom=0)
    _mark_events(trace, connection, axis, series.side)
    _legend(axis)
    _title(figure, connection, "Receive window per subflow")
    return figure


def _dsn(trace: Trace, connection: Connection, side: int) -> Figure:
    from matplotlib.collections import LineCollection

    figure, (axis,) = _figure(1, (4,))
    halves = [(subflow, subflow.half(side)) for subflow in busiest(connection, side)]
    top = max([int((h.data_rel + h.extents["bytes"]).max(initial=1)) for _, h in halves])
    scale, unit = _scaled(float(top), "B")
    for subflow, half in halves:
        extents = half.extents
        step = max(1, extents.size // _MOST_POINTS)
        chosen = extents[::step]
        rel = half.data_rel[::step]
        first, last = (_seconds(trace, chosen[name]) for name in ("first_ns", "last_ns"))
        low, high = rel / scale, (rel + chosen["bytes"]) / scale
        lines = np.stack((np.stack((first, low), axis=1), np.stack((last, high), axis=1)), axis=1)
        axis.add_collection(LineCollection(list(lines), colors=_colour(subflow), linewidths=1.2))
        axis.plot(first, low, ".", ms=1.5, color=_colour(subflow), label=_label(subflow))
        again = np.isin(extents["seq"], half.again_seq)
        if again.any():
            axis.plot(
                _seconds(trace, extents["first_ns"][again]), half.data_rel[again] / scale, "x",
                ms=3, color=_colour(subflow), label=f"reinjected on subflow {subflow.number}",
            )  # fmt: skip
    axis.set_ylabel(f"data sequence number ({unit})")
    axis.set_xlabel("time (s)")
    _mark_events(trace, connection, axis, side)
    _legend(axis, 2.5)
    _title(figure, connection, "Data sequence numbers")
    return figure


def _rtt(trace: Trace, connection: Connection, side: int) -> Figure:
    figure, (axis,) = _figure(1, (3,))
    for subflow in busiest(connection, side):
        rows = subflow.half(side ^ 1).samples
        rows = rows[rows["rtts"] > 0]
        step = max(1, rows.size // _MOST_POINTS)
        rows = rows[::step]
        if rows.size:
            axis.plot(
                _seconds(trace, rows["time_ns"]), rows["rtt_ns"] / rows["rtts"] / 1e6, ".", ms=2,
                color=_colour(subflow), label=_label(subflow),
            )  # fmt: skip
    axis.set_ylabel("round trip, from the capture on (ms)")
    axis.set_xlabel("time (s)")
    axis.set_yscale("log")  # near the receiver microseconds, with delayed ACKs tens of milliseconds
    _mark_events(trace, connection, axis, side)
    if axis.has_data():
        _legend(axis, 4)
    _title(figure, connection, "Round trips")
    return figure

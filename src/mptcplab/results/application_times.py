"""What requests, pages, video and messages of a run come to: percentiles of their times, losses.

Percentiles are interpolated between the two nearest ranks (type 7 of Hyndman and Fan, "Sample
quantiles in statistical packages", The American Statistician 50, 1996).  A request that was not
answered counts as longer than any that was, so that a percentile that falls among such is none; a
message that did not arrive is lost, and percentiles are those of the ones that did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, inf, isfinite
from typing import TYPE_CHECKING, Any, Final

from mptcplab.results.run import Run
from mptcplab.units import NANOSECONDS

if TYPE_CHECKING:
    import pyarrow as pa

PERCENTILES: Final = (50, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile of values in ascending order; None where there are none, or it is
    infinite.
    """
    if not values:
        return None
    place = (len(values) - 1) * percent / 100
    low, high = values[floor(place)], values[ceil(place)]
    value = high if low == high else low + (high - low) * (place - floor(place))
    return value if isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Times:
    """How long things took (s, ascending; those that did not end are infinite)."""

    values_s: tuple[float, ...]

    @property
    def ended(self) -> int:
        """How many ended."""
        return sum(isfinite(value) for value in self.values_s)

    def to_json(self) -> dict[str, float | int | None]:
        """Return their number and percentiles; ``unended`` did not end."""
        return {
            "count": self.ended,
            "unended": len(self.values_s) - self.ended,
            **{f"p{percent}_s": percentile(self.values_s, percent) for percent in PERCENTILES},
        }

    def percentile_s(self, percent: float) -> float | None:
        """Return a percentile (s)."""
        return percentile(self.values_s, percent)


_UNTIMED: Final = ("command", "gridftp")
"""Applications that note no requests and no messages."""


class ApplicationTimes:
    """The requests and messages of a run's flows."""

    def __init__(self, run: Run) -> None:
        """Read both tables, where any flow has rows in them."""
        self._run = run
        self._flows: dict[str, dict[str, Any]] = {
            flow["name"]: flow for flow in run.scenario["flows"] if flow.get("workload")
        }
        timed = {name for name, flow in self._flows.items() if flow["application"] not in _UNTIMED}
        self._tables: dict[str, pa.Table] = {}
        if timed:
            self._tables = {name: run.table(name) for name in ("requests", "messages")}

    def kind(self, flow: str) -> str | None:
        """Return the table that has a flow's rows, "requests" or "messages"; None for neither."""
        application = self._flows.get(flow, {}).get("application")
        if application in (None, *_UNTIMED):
            return None
        return "messages" if application in ("paced", "udp") else "requests"

    def columns(
        self, flow: str, names: Sequence[str], since_ns: int = 0, until_ns: int | None = None
    ) -> list[list[Any]]:
        """Return columns of a flow's rows, of those that began from ``since_ns`` on and before
        ``until_ns``, in the order of their numbers.
        """
        import pyarrow.compute as pc

        table = self._tables[self.kind(flow) or "requests"]
        wanted = pc.and_(
            pc.equal(table["flow"], flow), pc.greater_equal(table["start_ns"], since_ns)
        )
        if until_ns is not None:
            wanted = pc.and_(wanted, pc.less(table["start_ns"], until_ns))
        chosen = table.filter(wanted).sort_by("number")
        return [chosen[name].to_pylist() for name in names]

    def times(self, flow: str, since_ns: int = 0, until_ns: int | None = None) -> Times:
        """Return how long a flow's requests took; of messages, those that arrived."""
        starts, ends = self.columns(flow, ("start_ns", "end_ns"), since_ns, until_ns)
        is_message = self.kind(flow) == "messages"
        return Times(
            tuple(
                sorted(
                    inf if end is None else (end - start) / NANOSECONDS
                    for start, end in zip(starts, ends, strict=True)
                    if not (is_message and end is None)
                )
            )
        )

    def page_times(self, flow: str, since_ns: int = 0) -> Times:
        """Return how long a flow's web pages took, from the document's request to the last object.

        A page whose last objects were never asked for, since the run was over, is left out.
        """
        columns = self.columns(flow, ("page", "start_ns", "end_ns"), since_ns)
        pages: dict[int, tuple[float, float, int]] = {}
        for page, start, end in zip(*columns, strict=True):
            first, last, parts = pages.get(page, (inf, 0, 0))
            pages[page] = (min(first, start), max(last, inf if end is None else end), parts + 1)
        whole = 1 + self._flows[flow]["workload"].get("objects", 0)
        return Times(
            tuple(
                sorted(
                    (last - first) / NANOSECONDS
                    for first, last, parts in pages.values()
                    if parts == whole
                )
            )
        )

    def video(self, flow: str) -> dict[str, float | int | None]:
        """Return what a viewer saw: start-up, stalls, mean bitrate and how often it changed."""
        ends, bitrates, stalls, starts = self.columns(
            flow, ("end_ns", "bitrate_bps", "stall_ns", "start_ns")
        )
        shown = [(end, rate) for end, rate in zip(ends, bitrates, strict=True) if end is not None]
        rates = [rate for _, rate in shown]
        workload = self._flows[flow]["workload"]
        first = max(1, -(-workload["startup_ns"] // max(workload["chunk_ns"], 1)))
        stood_ns = [stall for stall in stalls if stall]
        return {
            "chunks": len(shown),
            "startup_s": (
                (shown[first - 1][0] - starts[0]) / NANOSECONDS if len(shown) >= first else None
            ),
            "stalls": len(stood_ns),
            "stalled_s": sum(stood_ns) / NANOSECONDS,
            "mean_bitrate_bps": sum(rates) / len(rates) if rates else None,
            "switches": sum(a != b for a, b in pairwise(rates)),
        }

    def summary(self, flow: str, settle_ns: int) -> dict[str, Any]:
        """Return what ``--json`` has of a flow's application; every value None where it has none.

        What was wanted in the first ``settle_ns`` of the flow is left out of the percentiles.
        """
        summary: dict[str, Any] = dict.fromkeys(("requests", "pages", "video", "messages"))
        kind = self.kind(flow)
        if kind is None:
            return summary
        since_ns = self._flows[flow]["start_ns"] + settle_ns if settle_ns else 0
        times = self.times(flow, since_ns)
        if kind == "messages":
            starts, ends = self.columns(flow, ("start_ns", "end_ns"), since_ns)
            lost = sum(end is None for end in ends)
            summary["messages"] = {
                "sent": len(starts),
                "lost": lost,
                "loss": lost / len(starts) if starts else None,
                **{f"p{each}_s": times.percentile_s(each) for each in PERCENTILES},
            }
            return summary
        first_bytes, starts, ends = self.columns(
            flow, ("first_byte_ns", "start_ns", "end_ns"), since_ns
        )
        waits = sorted(
            inf if first is None else (first - start) / NANOSECONDS
            for first, start in zip(first_bytes, starts, strict=True)
        )
        summary["requests"] = times.to_json() | {"first_byte_p50_s": percentile(waits, 50)}
        summary["requests"]["completion_s"] = self._completion_s(flow, ends)
        if self._flows[flow]["application"] == "web":
            summary["pages"] = self.page_times(flow, since_ns).to_json()
        if self._flows[flow]["application"] == "video":
            summary["video"] = self.video(flow)
        return summary

    def _completion_s(self, flow: str, ends: Sequence[int | None]) -> float | None:
        """Return how long all that a flow was to ask for took; None where it had no number."""
        workload = self._flows[flow]["workload"]
        count = workload.get("count")
        if not count or None in ends:
            return None
        expected = count * (1 + workload.get("objects", 0))
        if len(ends) < expected:
            return None
        last_ns = max(end for end in ends if end is not None)
        return float(last_ns - self._flows[flow]["start_ns"]) / NANOSECONDS

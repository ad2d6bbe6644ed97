"""SCTP beside MPTCP on the kernel: experiments A, B and H at a tenth of their rates.

    python -m bench.sctp measure      # as root; needs Debian's libusrsctp2
    python -m bench.sctp page

``measure`` runs what is not measured yet and adds it to a file of results, so that it can be
stopped and called again (``--for SECONDS`` stops by itself).  ``page`` writes the tables and the
figure of docs/guides/sctp.md from that file: means over runs, and 95 % intervals by Student's t. Of
the number of runs it says how many had CPU time enough by their own judgement.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.measured_tables import read_results, with_table

import mptcplab
from mptcplab.results.statistics import estimate

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGE: Final = DOCS / "guides" / "sctp.md"
FIGURE: Final = DOCS / "figures" / "sctp.png"
RESULTS: Final = Path(__file__).with_name("sctp.json")

_SCTP: Final = {"flows.main.protocol": "sctp", "flows.main.congestion": "reno"}
_CMT: Final = _SCTP | {"flows.main.cmt": True}
_QUICK: Final = {"flows.main.sctp.rto_min_default": 200}
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "MPTCP": {},
    "MPTCP, Reno": {"flows.main.congestion": "reno"},
    "MPTCP, kernel's path manager": {"tunables.path_manager": "kernel"},
    "SCTP": _SCTP,
    "SCTP, quick": _SCTP | _QUICK | {"flows.main.sctp.path_rtx_max_default": 0},
    "CMT": _CMT,
    "CMT, quick": _CMT
    | _QUICK
    | {
        "flows.main.sctp.path_pf_threshold": 0,
        "flows.main.send_buffer": "1MiB",
    },
}
"""What is compared, as settings of the experiments."""

THROUGHPUT: Final = ("MPTCP", "MPTCP, Reno", "SCTP", "CMT", "CMT, quick")
FAILOVER: Final = (
    *("MPTCP", "MPTCP, kernel's path manager", "SCTP", "SCTP, quick", "CMT", "CMT, quick"),
)
JOINS, DOWN, RETURNS, END = 2.0, 7.0, 13.0, 21.0  # B's 120 s, 420 s, 540 s and 900 s
_FILLED: Final = 0.5
"""Of a link's rate: what carries this is in use again."""
RATE_BPS: Final = 100e6


DISTURBED: Final = ("SIGSTOP", "stopped by", " was late ")
"""Words of reasons why a run says nothing of what it carried."""
LAN: Final = {"link5", "link6"}
"""Their queues are given in bytes, those of WAN links in time."""


@dataclass(frozen=True)
class Experiment:
    """An experiment of the report: how long it runs, and what of it is settling (s)."""

    name: str
    links: tuple[str, ...]
    interval: str
    duration_s: float
    settle_s: float
    variants: tuple[str, ...]


EXPERIMENTS: Final = (
    Experiment("A", ("link6", "link5"), "1s", 8, 3, THROUGHPUT),
    Experiment("H", ("link6", "link7"), "1s", 14, 6, THROUGHPUT),
    Experiment("B", ("link6", "link5"), "200ms", END, 2, FAILOVER),
)


def measure(experiment: Experiment, variant: str, seed: int) -> dict[str, Any]:
    """Run an experiment once; return its goodput (bit/s), and of B what came of the failure."""
    settings: dict[str, Any] = {f"links.{link}.rate": "100Mb/s" for link in experiment.links}
    settings |= {f"links.{link}.queue": "100KB" for link in LAN.intersection(experiment.links)}
    settings |= VARIANTS[variant] | {"interval": experiment.interval}
    settings["duration"] = f"{experiment.duration_s:g}s"
    if experiment.name == "B":
        for number, at_s in enumerate((JOINS, DOWN, RETURNS)):
            settings[f"timeline.{number}.at"] = f"{at_s}s"
    else:
        settings["expect"] = []
    with TemporaryDirectory() as folder:
        run = mptcplab.run(
            experiment.name,
            on="linux",
            set=settings,
            seed=seed,
            out=Path(folder, "run"),
        )
        for reason in run.invalid_reasons:
            print(f"{experiment.name} {variant}, seed {seed}, not valid: {reason}", flush=True)
        flows = run.table("flows").to_pylist()
        found: dict[str, Any] = {
            "disturbed": any(
                word in reason for reason in run.invalid_reasons for word in DISTURBED
            ),
            "cpu": any("the CPU was the limit" in reason for reason in run.invalid_reasons),
            "stuck": any("no progress" in reason for reason in run.invalid_reasons),
            "intact": run.metadata["flows"][0]["intact"],
        }
        found["bps"] = _mean_bps(flows, experiment.settle_s, experiment.duration_s)
        if experiment.name == "B":
            found |= _failure(flows, run.table("links").to_pylist())
        return found


def _mean_bps(rows: Iterable[dict[str, Any]], start_s: float, end_s: float) -> float:
    inside = [row for row in rows if start_s * 1e9 < row["time_ns"] <= end_s * 1e9 + 1e8]
    if not inside:
        return 0.0
    sent_bytes, time_ns = (sum(row[name] for row in inside) for name in ("bytes", "interval_ns"))
    return float(8e9 * sent_bytes / time_ns)


def _failure(flows: list[dict[str, Any]], links: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the goodput of the stages around the failure, silences in it, and the return."""
    silent_s = longest_s = 0.0
    for row in flows:
        if DOWN < row["time_ns"] / 1e9 <= RETURNS + 0.1:
            silent_s = 0.0 if row["bytes"] else silent_s + row["interval_ns"] / 1e9
            longest_s = max(longest_s, silent_s)
    back_s = [
        row["time_ns"] / 1e9 - RETURNS
        for row in links
        if row["link"] == "link6"
        and row["direction"] == "forward"
        and row["time_ns"] / 1e9 > RETURNS
        and row["bps"] > _FILLED * RATE_BPS
    ]
    return {
        "both_bps": _mean_bps(flows, JOINS + 2, DOWN),
        "failed_bps": _mean_bps(flows, DOWN, RETURNS),
        "after_bps": _mean_bps(flows, RETURNS, END),
        "silent_s": longest_s,
        "back_s": min(back_s, default=END - RETURNS),
        "series": [[round(row["time_ns"] / 1e9, 2), round(row["goodput_bps"])] for row in flows],
    }


def make(options: argparse.Namespace) -> None:
    """Run what is not measured yet; what was disturbed is made again by the next call."""
    results = read_results(options.results)
    end_s = time.monotonic() + options.seconds
    for seed in range(1, options.repetitions + 1):
        for experiment in EXPERIMENTS:
            for variant in experiment.variants:
                key = f"{experiment.name}: {variant}"
                if options.only not in key or str(seed) in results.get(key, {}):
                    continue
                if time.monotonic() > end_s:
                    return
                found = measure(experiment, variant, seed)
                told = {name: value for name, value in found.items() if name != "series"}
                print(f"{key}, seed {seed}: {told}", flush=True)
                if not found.pop("disturbed"):
                    results.setdefault(key, {})[str(seed)] = found
                    options.results.write_text(json.dumps(results, sort_keys=True) + "\n")


def _cell(
    results: dict[str, Any], key: str, what: str, scale: float = 1e-6, digits: int = 0
) -> str:
    runs = results.get(key, {})
    values = [runs[seed][what] * scale for seed in sorted(runs, key=int)]
    if not values:
        return "-"
    result = estimate(values)
    margin = f" ± {result.margin:.{digits}f}" if result.margin is not None else ""
    return f"{result.mean:.{digits}f}{margin}"


def _count(results: dict[str, Any], key: str) -> str:
    """Say how many runs there are, and of how many the CPU was not the limit at any time."""
    runs = results.get(key, {}).values()
    enough = sum(not run["cpu"] for run in runs)
    return f"{len(runs)}" + ("" if enough == len(runs) else f" ({enough})")


def throughput_table(results: dict[str, Any]) -> Iterator[str]:
    """Goodput of A and H (Mb/s)."""
    yield "| | A: two LAN links | H: a LAN and a WAN link | runs (with CPU enough) |"
    yield "|---|---|---|---|"
    for variant in THROUGHPUT:
        cells = [_cell(results, f"{name}: {variant}", "bps") for name in "AH"]
        counts = [_count(results, f"{name}: {variant}") for name in "AH"]
        yield f"| {variant} | {' | '.join(cells)} | {', '.join(counts)} |"


def failover_table(results: dict[str, Any]) -> Iterator[str]:
    """What came of B's failure."""
    yield (
        "| | both links (Mb/s) | one has failed (Mb/s) | both again (Mb/s) | longest silence (s) | "
        "in use again after (s) | runs |"
    )
    yield "|---|---|---|---|---|---|---|"
    for variant in FAILOVER:
        key = f"B: {variant}"
        cells = [_cell(results, key, f"{stage}_bps") for stage in ("both", "failed", "after")]
        cells += [_cell(results, key, what, 1.0, 1) for what in ("silent_s", "back_s")]
        cells.append(str(len(results.get(key, {}))))
        yield f"| {variant} | {' | '.join(cells)} |"


TABLES: Final = {"throughput": throughput_table, "failover": failover_table}


def draw(results: dict[str, Any]) -> None:
    """Draw one run of B for each variant, one below the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(FAILOVER), sharex=True, sharey=True)
    for axis, variant in zip(axes, FAILOVER, strict=True):
        series = results[f"B: {variant}"]["1"]["series"]
        times, rates = zip(*series, strict=True)
        axis.fill_between(times, [rate / 1e6 for rate in rates], step="pre", linewidth=0)
        axis.axvspan(DOWN, RETURNS, color="0.85", zorder=0)
        axis.set_title(variant, loc="left", fontsize="small")
        axis.set_ylim(0, 300)
        axis.set_xlim(0, END)
        axis.set_yticks([0, 100, 200])
    axes[-1].set_xlabel("s")
    figure.supylabel("goodput (Mb/s)")
    figure.savefig(FIGURE, dpi=100)


def write_page(options: argparse.Namespace) -> None:
    """Put the tables and the figure into the documentation, or print the tables."""
    results = read_results(options.results)
    text = PAGE.read_text()
    for name, table in TABLES.items():
        rows = table(results)
        if options.show:
            print("\n".join(rows) + "\n")
            continue
        text = with_table(text, name, rows)
    if not options.show:
        PAGE.write_text(text)
        draw(results)


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sctp",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--only", default="", help='names that contain this, such as "B: CMT"')
    measuring.add_argument("--repetitions", type=int, default=3)
    measuring.add_argument("--for", dest="seconds", type=float, default=math.inf)
    measuring.set_defaults(run=make)
    writing = commands.add_parser("page")
    writing.add_argument("--show", action="store_true", help="print the tables, write nothing")
    writing.set_defaults(run=write_page)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

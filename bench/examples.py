"""The named examples in simulation and on this kernel, side by side.

    python bench/examples.py [NAME ...] [--on simulated linux] [--repetitions 3]

For each example, means of the runs: goodput of each flow, and the 95th percentile of the requests
or messages of those that have any; then whether each run was valid and met its expectations.
Prints the rows of the table of docs/validation/examples.md. On Linux it needs root and an
otherwise quiet machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Final

from mptcplab.report.latency import LatencyCheck, latency_checks
from mptcplab.report.verdict import Check, checks
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise
from mptcplab.scenario import load
from mptcplab.testbeds import run_on

COMPARED: Final = (
    *("wifi-and-lte", "starlink", "satellite-and-dsl", "data-centre", "video", "ecn"),
)
"""The examples of the table: those that run on any kernel with MPTCP."""

Values = dict[str, float]


def quantities(run: Run) -> Iterator[tuple[str, float]]:
    """Yield goodput (Mb/s) and 95th percentiles (ms) of a run, with what they are of."""
    for flow in summarise(run)["flows"]:
        if flow["goodput_bps"] is not None:
            yield f"goodput of {flow['name']} (Mb/s)", flow["goodput_bps"] / 1e6
        for kind in ("requests", "pages", "messages"):
            if flow[kind] and flow[kind]["p95_s"] is not None:
                yield f"p95 of {flow['name']}, {kind} (ms)", flow[kind]["p95_s"] * 1e3


def measured(name: str, testbed: str, repetitions: int, scratch: Path) -> Values:
    """Run an example several times; print what each run came to and return the means."""
    every: dict[str, list[float]] = {}
    for seed in range(1, repetitions + 1):
        scenario = load(f"examples/{name}", seed=seed)
        run = Run(run_on(testbed, scenario, scratch / f"{name}-{testbed}-{seed}", Silent()))
        for what, value in quantities(run):
            every.setdefault(what, []).append(value)
        print(f"{name} on {testbed}, seed {seed}: {verdict(run)}", file=sys.stderr, flush=True)
    return {what: mean(values) for what, values in every.items()}


def verdict(run: Run) -> str:
    """Return whether a run is valid and met what is expected of it, in one line."""
    judged: list[Check | LatencyCheck] = [*checks(run), *latency_checks([run])]
    missed = [check.text for check in judged if check.outcome != "met"]
    valid = "valid" if run.metadata["valid"] else "NOT VALID"
    reasons = [*run.metadata["invalid_reasons"], *missed]
    met = f"{len(judged) - len(missed)} of {len(judged)} expectations met"
    return "; ".join([f"{valid}, {met}", *reasons])


def rows(name: str, values: Sequence[Values]) -> Iterator[str]:
    """Yield the rows of the table for an example, whose values are in the testbeds' order."""
    for what in values[0]:
        cells = [each.get(what) for each in values]
        shown = ["" if cell is None else f"{cell:.3g}" for cell in cells]
        first, last = cells[0], cells[-1]
        away = "" if first is None or last is None or not first else f"{last / first - 1:+.0%}"
        yield "| " + " | ".join([name, what, *shown, *([away] if len(cells) > 1 else [])]) + " |"


def main() -> None:
    """Run the examples that the arguments name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", metavar="NAME", nargs="*", default=COMPARED)
    parser.add_argument("--on", nargs="+", default=["simulated", "linux"])
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    head = ["example", "what", *args.on, *(["difference"] if len(args.on) > 1 else [])]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.names:
            values = [measured(name, each, args.repetitions, Path(scratch)) for each in args.on]
            print("\n".join(rows(name, values)), flush=True)


if __name__ == "__main__":
    main()

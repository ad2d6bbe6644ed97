"""The named examples in simulation and on this kernel, side by side.

    python -m bench.examples measure [NAME ...] [--on TESTBED ...]     # as root
    python -m bench.examples page

For each example, seed and testbed: goodput of each flow, and the 95th percentile of the requests,
pages or messages of those that have any.  The testbeds are ``simulated`` as the example is,
``kernel-scheduler`` (the same with the packet scheduler of upstream kernels), and ``linux``.
``measure`` runs what is not measured yet and adds it to a file of results, so that it can be
stopped and called again (``--for SECONDS`` stops by itself); a run that is not valid is made again
by the next call.  ``page`` writes the table of docs/validation/examples.md: means over seeds, and
95 % intervals by Student's t.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.measured_tables import read_results, with_table

from mptcplab.report.latency import LatencyCheck, latency_checks
from mptcplab.report.verdict import Check, checks
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate, difference, estimate
from mptcplab.results.summary import summarise
from mptcplab.scenario import load
from mptcplab.testbeds import run_on

PAGE: Final = Path(__file__).parents[1] / "docs" / "validation" / "examples.md"
RESULTS: Final = Path(__file__).with_name("examples.json")
COMPARED: Final = (
    *("wifi-and-lte", "starlink", "satellite-and-dsl", "data-centre", "video", "ecn"),
)
"""The examples of the table: those that run on any kernel with MPTCP."""
TESTBEDS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "simulated": ("simulated", ()),
    "kernel-scheduler": ("simulated", ("tunables.scheduler=linux-default",)),
    "linux": ("linux", ()),
}
"""Testbeds by what the results call them, with what is set for them."""
PERCENTILES: Final = ("requests", "pages", "messages")


def quantities(run: Run) -> Iterator[tuple[str, float]]:
    """Yield goodput (Mb/s) and 95th percentiles (ms) of a run, with what they are of."""
    for flow in summarise(run)["flows"]:
        if flow["goodput_bps"] is not None:
            yield f"goodput of {flow['name']} (Mb/s)", flow["goodput_bps"] / 1e6
        for kind in PERCENTILES:
            if flow[kind] and flow[kind]["p95_s"] is not None:
                yield f"p95 of {flow['name']}, {kind} (ms)", flow[kind]["p95_s"] * 1e3


def measured(name: str, testbed: str, seed: int) -> dict[str, Any]:
    """Run an example once; return its quantities, and what is wrong with the run."""
    on, overrides = TESTBEDS[testbed]
    scenario = load(f"examples/{name}", seed=seed, overrides=overrides)
    with TemporaryDirectory() as scratch:
        run = Run(run_on(on, scenario, Path(scratch) / "run", Silent()))
        judged: list[Check | LatencyCheck] = [*checks(run), *latency_checks([run])]
        return {
            "values": dict(quantities(run)),
            "invalid": run.metadata["invalid_reasons"],
            "missed": [check.text for check in judged if check.outcome != "met"],
        }


def make(options: argparse.Namespace) -> None:
    """Run what is not measured yet."""
    end_s = time.monotonic() + options.seconds
    for seed in range(1, options.repetitions + 1):
        for name in options.names:
            for testbed in options.on:
                results = read_results(options.results)
                key = f"{name} {testbed}"
                if str(seed) in results.get(key, {}):
                    continue
                if time.monotonic() > end_s:
                    return
                found = measured(name, testbed, seed)
                print(f"{key}, seed {seed}: {found}", flush=True)
                if found.pop("invalid"):
                    continue
                results = read_results(options.results)
                results.setdefault(key, {})[str(seed)] = found
                options.results.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def of_testbed(results: dict[str, Any], name: str, testbed: str, what: str) -> list[float]:
    """Return a quantity of every run of an example on a testbed."""
    runs = results.get(f"{name} {testbed}", {})
    return [
        runs[seed]["values"][what] for seed in sorted(runs, key=int) if what in runs[seed]["values"]
    ]


def table(results: dict[str, Any]) -> Iterator[str]:
    """Yield the rows of the table."""
    yield (
        "| example | what | simulated | with the kernel's scheduler | Linux | difference of the "
        "last two | runs |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name in COMPARED:
        runs = results.get(f"{name} linux", {})
        for what in sorted({what for run in runs.values() for what in run["values"]}):
            every = [of_testbed(results, name, testbed, what) for testbed in TESTBEDS]
            if all(every):
                cells = [shown(estimate(values)) for values in every]
                counts = ", ".join(str(len(values)) for values in every)
                difference_cell = away(every[1], every[2])
                yield f"| {name} | {what} | {' | '.join(cells)} | {difference_cell} | {counts} |"


def shown(value: Estimate) -> str:
    """Return a mean with its margin, to three digits of the mean."""
    digits = max(0, 2 - math.floor(math.log10(value.mean))) if value.mean > 0 else 0
    margin = "" if value.margin is None else f" ± {value.margin:.{digits}f}"
    return f"{value.mean:.{digits}f}{margin}"


def away(ours: list[float], theirs: list[float]) -> str:
    """Return how far the kernel's mean is from the simulated one (%), with its margin."""
    count = min(len(ours), len(theirs))
    base = estimate(ours).mean
    text = f"{estimate(theirs).mean / base - 1:+.0%}"
    margin = difference(theirs[:count], ours[:count]).margin
    return text if margin is None else f"{text} ± {margin / base:.0%}"


def write_page(options: argparse.Namespace) -> None:
    """Put the table into the page, or print it."""
    rows = list(table(read_results(options.results)))
    if options.show:
        print("\n".join(rows))
    else:
        PAGE.write_text(with_table(PAGE.read_text(), "examples", rows))


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.examples",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("names", metavar="NAME", nargs="*", default=COMPARED)
    measuring.add_argument("--on", nargs="+", choices=tuple(TESTBEDS), default=list(TESTBEDS))
    measuring.add_argument("--repetitions", type=int, default=5)
    measuring.add_argument("--for", dest="seconds", type=float, default=math.inf)
    measuring.set_defaults(run=make)
    writing = commands.add_parser("page")
    writing.add_argument("--show", action="store_true", help="print the table, write nothing")
    writing.set_defaults(run=write_page)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

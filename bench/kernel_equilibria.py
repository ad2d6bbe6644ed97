"""Where coupled congestion controls settle on this kernel, by BPF, beside our stack in simulation.

    python -m bench.kernel_equilibria measure --on linux --jobs 4      # as root
    python -m bench.kernel_equilibria measure --on simulated --jobs 2
    python -m bench.kernel_equilibria page

``measure`` runs what is not measured yet and adds it to a file of results, so that it can be
stopped and called again (``--for SECONDS`` stops by itself). ``page`` writes the tables of
docs/validation/kernel-congestion.md from that file: means over runs with other seeds, and 95 %
intervals by Student's t.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.equilibria.closed_forms import (
    LossyPath,
    balia_rates,
    lia_rates,
    olia_rates,
    reno_rate,
)
from bench.measured_tables import read_results, with_table

import mptcplab
from mptcplab.results.statistics import estimate

PAGE: Final = Path(__file__).parents[1] / "docs" / "validation" / "kernel-congestion.md"
RESULTS: Final = Path(__file__).with_name("kernel_equilibria.json")
RTT_MS: Final = 10
FORMS: Final = {"lia": lia_rates, "olia": olia_rates, "balia": balia_rates}
LOSSES: Final = ((0.001, 0.001), (0.001, 0.004))
EXPERIMENT: Final = (
    (("link6",), ("cubic", "lia")),
    (("link6", "link5"), ("cubic", "reno", "lia")),
)
"""Of experiment I: the links of MPTCP, and the congestion controls on them."""

TWO_LOSSES: Final = """
title = "Two lossy paths"
duration = "60s"
hosts = ["alice", "bob"]
[links.one]
between = ["alice", "bob"]
rtt = "10ms"
loss = "0.1%"
[links.two]
between = ["alice", "bob"]
rtt = "10ms"
loss = "0.1%"
[flows.judged]
from = "alice"
to = "bob"
buffer = "16MB"
"""
# A kernel gives data to a subflow long before it can send them. What it gives in slow start to one
# that then has a loss takes that one some seconds.
SETTLING_S: Final = 15.0


@dataclass(frozen=True)
class Case:
    """A scenario that is run with several seeds, and what of it is not measured (s)."""

    table: str
    name: str
    scenario: str
    settle_s: float
    settings: dict[str, Any] = field(default_factory=dict)
    in_parallel: bool = True
    """Whether the machine can carry several of these at a time."""


def cases() -> Iterator[Case]:
    """Yield everything that is measured."""
    for loss in (0.001, 0.004):
        settings = {
            "flows.judged.protocol": "tcp",
            "flows.judged.congestion": "reno",
            "flows.judged.links": ["one"],
            "links.one.loss": loss,
        }
        yield Case("loss", f"tcp {loss}", TWO_LOSSES, SETTLING_S, settings)
    for losses in LOSSES:
        for control in FORMS:
            settings = {"flows.judged.congestion": control, "links.two.loss": losses[1]}
            name = f"{control} {losses[0]} {losses[1]}"
            yield Case("loss", name, TWO_LOSSES, SETTLING_S, settings)
    for control in ("reno", *FORMS):
        settings = {"flows.mptcp.congestion": control}
        yield Case("bottleneck", control, "examples/bottleneck", 15.0, settings)
    for links, controls in EXPERIMENT:
        for control in controls:
            settings = {
                "flows.mptcp.congestion": control,
                "flows.tcp.congestion": "cubic" if control == "cubic" else "reno",
                "flows.mptcp.links": list(links),
            }
            yield Case("experiment", f"{control} {len(links)}", "I", 5.0, settings, False)


def measure(case: Case, on: str, seed: int) -> dict[str, float]:
    """Run a case once; return bit/s by flow, and by link packets/s, losses and round trip (ms)."""
    with TemporaryDirectory() as folder:
        scenario = case.scenario
        if "\n" in scenario:
            scenario = str(Path(folder, "scenario.toml"))
            Path(scenario).write_text(case.scenario)
        duration = "20s" if case.table == "experiment" else None
        run = mptcplab.run(
            scenario,
            on=on,
            set=case.settings,
            seed=seed,
            duration=duration,
            out=Path(folder, "run"),
        )
        for reason in run.invalid_reasons:
            print(f"{case.table} {case.name}, {on}, seed {seed}, not valid: {reason}", flush=True)
        settle_ns = round(case.settle_s * 1e9)
        values = dict(_flows(run, settle_ns))
        values |= _links(run, settle_ns)
        return values | {"valid": float(run.valid)}


def _flows(run: mptcplab.Run, settle_ns: int) -> Iterator[tuple[str, float]]:
    rows = run.table("flows").to_pylist()
    for name in {row["flow"] for row in rows}:
        late = [r for r in rows if r["flow"] == name and r["time_ns"] > settle_ns]
        time_ns = sum(r["interval_ns"] for r in late) / len({r["connection"] for r in late})
        yield f"{name} bps", 8e9 * sum(r["bytes"] for r in late) / time_ns


def _links(run: mptcplab.Run, settle_ns: int) -> Iterator[tuple[str, float]]:
    end_ns = run.metadata["measured_ns"]
    rows = [
        r
        for r in run.table("links").to_pylist()
        if r["direction"] == "forward" and settle_ns < r["time_ns"] <= end_ns + 10**8
    ]
    for link in {row["link"] for row in rows}:
        late = [r for r in rows if r["link"] == link]
        seconds = sum(r["interval_ns"] for r in late) / 1e9
        sent = sum(r["tx_packets"] + r["drops_loss"] for r in late)
        yield f"{link} packets/s", sent / seconds
        if sent:
            yield f"{link} loss", sum(r["drops_loss"] for r in late) / sent
    subflows = run.table("subflows").to_pylist()
    for link in {row["link"] for row in subflows}:
        trips = [
            r["srtt_ns"]
            for r in subflows
            if r["link"] == link and r["bytes_sent"] > 10**5 and settle_ns < r["time_ns"] <= end_ns
        ]
        if trips:
            yield f"{link} rtt", sum(trips) / len(trips) / 1e6


def make(options: argparse.Namespace) -> None:
    """Run what is wanted and not measured yet, several at a time where that can be."""
    results = read_results(options.results)
    end_s = time.monotonic() + options.seconds
    wanted = [
        (case, seed)
        for seed in range(1, options.repetitions + 1)
        for case in cases()
        if options.only in case.table and _key(case, options.on) not in {*_known(results, seed)}
    ]
    for together in (True, False):
        several = [(case, seed) for case, seed in wanted if case.in_parallel == together]
        jobs = options.jobs if together else 1
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            while several and time.monotonic() < end_s:
                batch, several = several[:jobs], several[jobs:]
                started = {pool.submit(measure, c, options.on, s): (c, s) for c, s in batch}
                for future in as_completed(started):
                    case, seed = started[future]
                    values = future.result()
                    if values["valid"]:  # others are made again at the next call
                        results.setdefault(_key(case, options.on), {})[str(seed)] = values
                    options.results.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
                    told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
                    print(
                        f"{case.table} {case.name}, {options.on}, seed {seed}: {told}", flush=True
                    )


def _key(case: Case, on: str) -> str:
    return f"{case.table}: {case.name}: {on}"


def _known(results: dict[str, Any], seed: int) -> Iterator[str]:
    for key, seeds in results.items():
        if str(seed) in seeds:
            yield key


def _values(results: dict[str, Any], table: str, name: str, on: str, what: str) -> list[float]:
    runs = results.get(f"{table}: {name}: {on}", {})
    return [runs[seed][what] for seed in sorted(runs, key=int) if what in runs[seed]]


_NOT_MEASURED: Final = "-"
_HEADING: Final = 2  # lines of a table


def _cell(values: Iterable[float], scale: float = 1.0) -> str:
    found = [value * scale for value in values]
    if not found:
        return _NOT_MEASURED
    result = estimate(found)
    return f"{result.mean:.0f}" + (f" ± {result.margin:.0f}" if result.margin else "")


def loss_table(results: dict[str, Any]) -> list[str]:
    """Packets a second on two paths with fixed loss, and in sum, beside the closed form."""
    rows = [
        "| control | loss | kernel | in sum | simulation | in sum | closed form | in sum |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for loss in (0.001, 0.004):
        cells = [_cell(_values(results, "loss", f"tcp {loss}", on, "one packets/s"))
                 for on in ("linux", "simulated")]  # fmt: skip
        form = f"{reno_rate(LossyPath(loss, RTT_MS)):.0f}"
        rows.append(f"| one TCP (reno) | {loss} | {cells[0]} | | {cells[1]} | | {form} | |")
    for losses in LOSSES:
        for control, forms in FORMS.items():
            name = f"{control} {losses[0]} {losses[1]}"
            cells = []
            for on in ("linux", "simulated"):
                paths = [
                    _values(results, "loss", name, on, f"{link} packets/s")
                    for link in ("one", "two")
                ]
                cells.append(" + ".join(map(_cell, paths)) if all(paths) else _NOT_MEASURED)
                cells.append(_cell(map(math.fsum, zip(*paths, strict=True))))
            rates = forms([LossyPath(loss, RTT_MS) for loss in losses])
            cells += [" + ".join(f"{rate:.0f}" for rate in rates), f"{sum(rates):.0f}"]
            rows.append(f"| {control} | {losses[0]}, {losses[1]} | " + " | ".join(cells) + " |")
    return rows


def conditions_table(results: dict[str, Any]) -> list[str]:
    """The sums of both paths beside what one TCP gets with the better path's RTT and losses."""
    rows = [
        "| control | loss | RTT (ms) | lost (‰) | best TCP there | kernel (%) | simulation (%) |",
        "|---|---|---|---|---|---|---|",
    ]
    for losses in LOSSES:
        for control in FORMS:
            name = f"{control} {losses[0]} {losses[1]}"
            trips, lost, best, ratios = _conditions(results, name, "linux")
            simulated = _conditions(results, name, "simulated")[3]
            rows.append(
                f"| {control} | {losses[0]}, {losses[1]} | {trips} | {lost} | {_cell(best)} | "
                f"{_cell(ratios, 100)} | {_cell(simulated, 100)} |"
            )
    return rows


def _conditions(
    results: dict[str, Any], name: str, on: str
) -> tuple[str, str, list[float], list[float]]:
    """Return RTT and losses of both paths, and by run the best TCP and what part the sum is."""
    trips, lost, sent = (
        [_values(results, "loss", name, on, f"{link} {what}") for link in ("one", "two")]
        for what in ("rtt", "loss", "packets/s")
    )
    best, ratios = [], []
    for *conditions, one, two in zip(*trips, *lost, *sent, strict=True):
        paths = [LossyPath(conditions[2 + n], conditions[n]) for n in (0, 1)]
        best.append(max(map(reno_rate, paths)))
        ratios.append((one + two) / best[-1])
    means = (
        ", ".join(f"{scale * math.fsum(each) / max(1, len(each)):.{digits}f}" for each in several)
        for several, scale, digits in ((trips, 1, 1), (lost, 1000, 2))
    )
    return next(means), next(means), best, ratios


def bottleneck_table(results: dict[str, Any]) -> list[str]:
    """The part of a shared link that two subflows take beside one TCP."""
    rows = [
        "| control | kernel (%) | simulation (%) | fair (%) |",
        "|---|---|---|---|",
    ]
    for control in ("reno", *FORMS):
        cells = [_cell(_shares(results, "bottleneck", control, on), 100)
                 for on in ("linux", "simulated")]  # fmt: skip
        if set(cells) == {_NOT_MEASURED}:
            continue
        rows.append(f"| {control} | {cells[0]} | {cells[1]} | {67 if control == 'reno' else 50} |")
    return rows


def _shares(results: dict[str, Any], table: str, name: str, on: str) -> list[float]:
    mptcp = _values(results, table, name, on, "mptcp bps")
    tcp = _values(results, table, name, on, "tcp bps")
    return [one / (one + other) for one, other in zip(mptcp, tcp, strict=True)]


def experiment_table(results: dict[str, Any]) -> list[str]:
    """Experiment I: goodput in Mb/s of MPTCP and TCP."""
    rows = [
        "| links of MPTCP | control | TCP's | MPTCP, kernel | TCP, kernel | MPTCP, simulation | "
        "TCP, simulation |",
        "|---|---|---|---|---|---|---|",
    ]
    for links, controls in EXPERIMENT:
        for control in controls:
            name = f"{control} {len(links)}"
            cells = [
                _cell(_values(results, "experiment", name, on, f"{flow} bps"), 1e-6)
                for on in ("linux", "simulated")
                for flow in ("mptcp", "tcp")
            ]
            if set(cells) == {_NOT_MEASURED}:
                continue
            other = "cubic" if control == "cubic" else "reno"
            rows.append(f"| {len(links)} | {control} | {other} | " + " | ".join(cells) + " |")
    return rows


TABLES: Final = {
    "loss": loss_table,
    "conditions": conditions_table,
    "bottleneck": bottleneck_table,
    "experiment": experiment_table,
}


def write_page(options: argparse.Namespace) -> None:
    """Put the tables into the page, or print them."""
    results = read_results(options.results)
    text = PAGE.read_text() if PAGE.exists() and not options.show else ""
    for name, table in TABLES.items():
        lines = table(results)
        rows = lines if len(lines) > _HEADING else ["Nothing is measured yet."]
        if not text:
            print("\n".join(rows) + "\n")
            continue
        text = with_table(text, name, rows)
    if text:
        PAGE.write_text(text)


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernel_equilibria",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--on", choices=("linux", "simulated"), default="linux")
    measuring.add_argument("--only", default="", help="tables whose names contain this")
    measuring.add_argument("--repetitions", type=int, default=5)
    measuring.add_argument("--jobs", type=int, default=1, help="runs at a time")
    measuring.add_argument("--for", dest="seconds", type=float, default=math.inf)
    measuring.set_defaults(run=make)
    writing = commands.add_parser("page")
    writing.add_argument("--show", action="store_true", help="print the tables, write nothing")
    writing.set_defaults(run=write_page)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

"""Measure equilibria and write them into docs/validation/congestion.md."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from bench.equilibria.closed_forms import (
    LossyPath,
    balia_rates,
    lia_rates,
    olia_rates,
    reno_rate,
)
from bench.equilibria.estimate import Estimate, replicate
from bench.equilibria.paths import MS, lossy_paths, shared_bottleneck, wifi_and_3g
from bench.measured_tables import with_table

from mptcplab.network.parameters import ChannelParameters
from mptcplab.stack.congestion import CONGESTION_CONTROLS

PAGE = Path(__file__).parents[2] / "docs" / "validation" / "congestion.md"

Forms = Callable[[list[LossyPath]], list[float]]

RENO_PATHS = [
    LossyPath(0.0004, 10),
    LossyPath(0.001, 10),
    LossyPath(0.004, 10),
    LossyPath(0.016, 10),
    LossyPath(0.001, 50),
]
PAIRS = [
    [LossyPath(0.001, 10), LossyPath(0.001, 10)],
    [LossyPath(0.001, 10), LossyPath(0.004, 10)],
    [LossyPath(0.001, 10), LossyPath(0.001, 40)],
    [LossyPath(0.001, 10), LossyPath(0.0001, 100)],
]
SETTLING = 0.1
"""The part of a run on two lossy paths that is not measured."""
COUPLED: dict[str, Forms] = {"lia": lia_rates, "olia": olia_rates, "balia": balia_rates}
LINK = ChannelParameters(rate_bps=50_000_000, delay_ns=10 * MS, queue_bytes=125_000, loss=0.0005)


def loss_table(replications: int, duration_s: float) -> list[str]:
    """NewReno on one lossy path."""
    rows = ["| loss | RTT (ms) | measured | 1.3098 / (RTT √p) |", "|---|---|---|---|"]
    reno = CONGESTION_CONTROLS["reno"]
    for path in RENO_PATHS:

        def run(seed: int, path: LossyPath = path) -> list[float]:
            return lossy_paths(reno, [path], seed, 5, duration_s).segments_per_s[0]

        measured = replicate(run, replications)[0]
        rows.append(f"| {path.loss} | {path.rtt_ms} | {measured} | {reno_rate(path):.0f} |")
    return rows


def pair_table(replications: int, duration_s: float) -> list[str]:
    """Coupled controls on two lossy paths.

    The longer round trips are and the rarer losses, the longer it takes to settle: ``duration_s``
    holds for the first pairs, and the last, with a loss in ten seconds, has three times as long.
    """
    rows = [
        "| control | paths (loss, RTT in ms) | measured | closed form | best single TCP |",
        "|---|---|---|---|---|",
    ]
    for paths in PAIRS:
        measured_s = duration_s * (3 if paths is PAIRS[-1] else 1)
        for name, forms in COUPLED.items():
            control = CONGESTION_CONTROLS[name]

            def run(
                seed: int,
                control: object = control,
                paths: list[LossyPath] = paths,
                measured_s: float = measured_s,
            ) -> list[float]:
                assert callable(control)
                settle_s = SETTLING * measured_s
                return lossy_paths(control, paths, seed, settle_s, measured_s).segments_per_s[0]

            measured = replicate(run, replications)
            text = " + ".join(str(one) for one in measured)
            form = " + ".join(f"{rate:.0f}" for rate in forms(paths))
            where = ", ".join(f"({path.loss}, {path.rtt_ms})" for path in paths)
            best = max(reno_rate(path) for path in paths)
            rows.append(f"| {name} | {where} | {text} | {form} | {best:.0f} |")
    return rows


def bottleneck_table(replications: int, duration_s: float) -> list[str]:
    """Subflows of one connection against one TCP."""
    rows = ["| control | subflows | share of the link (%) | fair share (%) |", "|---|---|---|---|"]
    for name in ("reno", *COUPLED):
        for subflows in (2, 4):
            measured = share(name, subflows, replications, duration_s)
            fair = 100 * subflows / (subflows + 1) if name == "reno" else 50
            percent = Estimate(100 * measured.mean, 100 * measured.half_width)
            rows.append(f"| {name} | {subflows} | {percent} | {fair:.0f} |")
    return rows


def share(name: str, subflows: int, replications: int, duration_s: float) -> Estimate:
    """Return what part of the traffic the connection with several subflows has."""
    control = CONGESTION_CONTROLS[name]

    def run(seed: int) -> list[float]:
        rates = shared_bottleneck(control, subflows, LINK, seed, 5, duration_s)
        return [rates.total(0) / (rates.total(0) + rates.total(1))]

    return replicate(run, replications)[0]


def buffer_table(duration_s: float) -> list[str]:
    """NSDI 2012, figure 4."""
    rows = ["| receive buffer (kB) | plain | M1 | M1 + M2 |", "|---|---|---|---|"]
    for kilobytes in (100, 200, 400, 800):
        cells = [
            f"{wifi_and_3g(m1, m2, kilobytes * 1000, 1, 20, duration_s):.1f}"
            for m1, m2 in ((False, False), (True, False), (True, True))
        ]
        rows.append(f"| {kilobytes} | " + " | ".join(cells) + " |")
    return rows


def tables(quick: bool) -> dict[str, Callable[[], list[str]]]:
    """Return what makes each table of the page."""
    replications, scale = (2, 0.2) if quick else (5, 1.0)
    return {
        "loss": lambda: loss_table(replications, 60 * scale),
        "paths": lambda: pair_table(replications, 100 * scale),
        "bottleneck": lambda: bottleneck_table(replications, 60 * scale),
        "buffer": lambda: buffer_table(60 * scale),
    }


def main() -> None:
    """Measure and put the tables into the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.equilibria", description=__doc__)
    parser.add_argument("table", nargs="*", help="loss, paths, bottleneck, buffer; default all")
    parser.add_argument("--quick", action="store_true", help="short runs; print, write nothing")
    arguments = parser.parse_args()
    known = tables(arguments.quick)
    for name in arguments.table or known:
        if name not in known:
            parser.error(f"no table {name!r}: expected one of {', '.join(known)}")
        rows = known[name]()
        if arguments.quick:
            print("\n".join(rows))
            continue
        PAGE.write_text(with_table(PAGE.read_text(), name, rows))


if __name__ == "__main__":
    main()

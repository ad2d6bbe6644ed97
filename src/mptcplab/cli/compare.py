"""``mptcplab compare``: run variants of a scenario several times and say which is better."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mptcplab.cli.scenario_arguments import add_scenario_arguments, load_scenario
from mptcplab.cli.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    from mptcplab.report.comparison import Quantity, Result
    from mptcplab.results.run import Run
    from mptcplab.scenario import Scenario

AS_IT_IS = "as it is"
REPETITIONS = 5


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "compare",
        help="run variants of a scenario several times and say which is better",
        description="Run a scenario and variants of it several times each, and say for the goodput "
        "of every flow (of a flow with a size, for its completion time) whether a variant is "
        "better or worse, with 95 % confidence intervals. The N-th runs of all variants have the "
        "same seed, which also shifts the starts of flows a little.",
        epilog="Examples: mptcplab compare my.toml --tcp (does MPTCP help on my links?); mptcplab "
        "compare my.toml --variant tunables.scheduler=mine:MostRoom --repetitions 10 (does my "
        "scheduler beat the default?). Exit status: 0 every run is valid, 1 one is not, 2 bad "
        "input, 3 this machine cannot.",
    )
    add_scenario_arguments(parser)
    parser.add_argument(
        "--variant",
        dest="variants",
        metavar="KEY=VALUE",
        nargs="+",
        action="append",
        default=[],
        help="one variant: the keys to change, as in --set (repeatable)",
    )
    parser.add_argument(
        "--tcp",
        action="store_true",
        help="add a variant for each path, with the MPTCP flows as plain TCP over that path alone",
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        metavar="N",
        help=f"runs of each variant (default: the scenario's, or {REPETITIONS})",
    )
    parser.add_argument(
        "--on", choices=sorted(TESTBEDS), default=DEFAULT, help="the testbed (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for all runs, new or empty")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


@dataclass(slots=True)
class Variant:
    """One variant and the results of its runs."""

    label: str
    overrides: tuple[str, ...]
    scenario: Scenario
    quantities: list[dict[Quantity, float | None]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)


def run(args: argparse.Namespace) -> int:
    """Run and compare all variants; 0 where every run is valid, 1 where one is not."""
    from mptcplab.report.comparison import compared, draw_comparison
    from mptcplab.results.writer import is_free
    from mptcplab.scenario import ScenarioError

    variants = _variants(args)
    repetitions = args.repetitions
    if repetitions is None:
        stated = variants[0].scenario.repetitions
        repetitions = stated if stated > 1 else REPETITIONS
    if repetitions < 1:
        raise ScenarioError(
            "--repetitions", "", f"{repetitions} is not a number of runs", "1 or more"
        )
    scenario = variants[0].scenario
    stamp = time.strftime("%Y%m%d-%H%M%S")
    out = args.out or Path("runs") / f"{stamp}-compare-{scenario.name}-{args.on}"
    if not is_free(out):
        raise ScenarioError(f"--out {out}", "", "exists already", "a new or empty folder")
    for number in range(repetitions):
        for place, variant in enumerate(variants):
            done = number * len(variants) + place + 1
            _run_once(args.on, variant, number, out, f"[{done}/{len(variants) * repetitions}]")
    first = variants[0].quantities
    results = [compared(first, variant.quantities) for variant in variants]
    labels = [variant.label for variant in variants]
    title = f"{scenario.name} on {args.on}, {repetitions} runs of each: mean and 95 % interval"
    figure = draw_comparison(title, labels, results, out / "comparison")[0]
    summary = _summary(args, variants, results, repetitions)
    (out / "comparison.json").write_text(json.dumps(summary, indent=2) + "\n")
    if args.json:
        print(json.dumps(summary))
    else:
        print(_text(args, variants, results, repetitions))
        print(f"\nRuns    {out}\nFigure  {figure}")
    return 1 if any(variant.invalid for variant in variants) else 0


def _variants(args: argparse.Namespace) -> list[Variant]:
    """Return the scenario as it is and every variant, all checked."""
    from mptcplab.scenario import ScenarioError

    base = load_scenario(args)
    common = tuple(args.overrides)
    wanted = [(", ".join(texts), tuple(texts)) for texts in args.variants]
    if args.tcp:
        wanted += _tcp_variants(base)
    if not wanted:
        raise ScenarioError(
            args.scenario,
            "",
            "there is nothing to compare it with",
            "--variant KEY=VALUE, or --tcp",
        )
    variants = [Variant(AS_IT_IS, (), base)]
    for label, overrides in wanted:
        if any(label == other.label for other in variants):
            raise ScenarioError(f"--variant {label}", "", "is given twice", "each variant once")
        args.overrides = [*common, *overrides]
        variants.append(Variant(label, overrides, load_scenario(args)))
    args.overrides = list(common)
    return variants


def _tcp_variants(scenario: Scenario) -> list[tuple[str, tuple[str, ...]]]:
    """Return label and overrides for TCP over each path in place of MPTCP over all."""
    from mptcplab.scenario import ScenarioError
    from mptcplab.scenario.schema.keys import COUPLED

    by_path: dict[tuple[str, ...], list[str]] = {}
    for flow in scenario.flows:
        if flow.protocol != "mptcp":
            continue
        for links in dict.fromkeys(path.links for path in scenario.paths(flow)):
            name = f'"{flow.name}"' if "." in flow.name else flow.name
            overrides = by_path.setdefault(links, [])
            overrides += [f"flows.{name}.protocol=tcp", f"flows.{name}.links={json.dumps(links)}"]
            if flow.congestion in COUPLED:  # which behave like NewReno on a single path
                overrides.append(f"flows.{name}.congestion=reno")
    if not by_path:
        raise ScenarioError(scenario.source, "flows", "--tcp finds no MPTCP flow", "at least one")
    return [(f"TCP over {' + '.join(links)}", tuple(texts)) for links, texts in by_path.items()]


def _run_once(on: str, variant: Variant, number: int, out: Path, count: str) -> None:
    """Run a variant once and keep the result. KeyboardInterrupt where it was stopped."""
    from mptcplab.cli.progress import LiveProgress
    from mptcplab.cli.testbeds import run_on
    from mptcplab.report.comparison import measured
    from mptcplab.results.observer import Silent
    from mptcplab.results.run import Run
    from mptcplab.scenario.repetition import repetition

    seed = variant.scenario.seed + number
    scenario = repetition(variant.scenario, seed)
    title = f"{count} {variant.label}, seed {seed}"
    live = LiveProgress(title, scenario.duration_ns) if sys.stderr.isatty() else None
    folder = out / re.sub(r"[^A-Za-z0-9.]+", "-", variant.label).strip("-").lower() / str(seed)
    try:
        done = Run(run_on(on, scenario, folder, live or Silent()))
    finally:
        if live is not None:
            live.close()
    if done.is_cut:
        raise KeyboardInterrupt
    variant.quantities.append(measured(done))
    variant.runs.append(str(folder))
    variant.invalid += [f"{folder}: {reason}" for reason in done.metadata["invalid_reasons"]]
    print(f"{title}: {_headline(variant, done)}", file=sys.stderr, flush=True)


def _headline(variant: Variant, done: Run) -> str:
    shown = [
        f"{quantity.name} {'-' if value is None else quantity.text(value)}"
        for quantity, value in variant.quantities[-1].items()
    ]
    text = ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
    return f"{text} ({done.metadata['wall_s']:.1f} s)"


def _summary(
    args: argparse.Namespace,
    variants: list[Variant],
    results: list[list[Result]],
    repetitions: int,
) -> dict[str, Any]:
    """Return the object that ``--json`` prints; see ``docs/reference/results.md``."""
    scenario = variants[0].scenario
    return {
        "scenario": scenario.name,
        "testbed": args.on,
        "repetitions": repetitions,
        "seeds": [scenario.seed + number for number in range(repetitions)],
        "variants": [
            {
                "label": variant.label,
                "set": list(variant.overrides),
                "valid": not variant.invalid,
                "invalid_reasons": variant.invalid,
                "runs": variant.runs,
                "quantities": [
                    {
                        "name": result.quantity.name,
                        "unit": "s" if result.quantity.is_time else "bit/s",
                        "values": [values[result.quantity] for values in variant.quantities],
                        "value": None if result.value is None else asdict(result.value),
                        "difference": result.difference and asdict(result.difference),
                        "outcome": result.outcome,
                    }
                    for result in mine
                ],
            }
            for variant, mine in zip(variants, results, strict=True)
        ],
    }


def _text(
    args: argparse.Namespace,
    variants: list[Variant],
    results: list[list[Result]],
    repetitions: int,
) -> str:
    from mptcplab.cli.columns import columns
    from mptcplab.report.comparison import relative_text

    scenario = variants[0].scenario
    runs = "one run" if repetitions == 1 else f"{repetitions} runs"
    parts = [
        f"{scenario.name}: {scenario.title}" if scenario.title else scenario.name,
        f"{runs} of each on {args.on}, from seed {scenario.seed} on; mean ± 95 % confidence",
    ]
    for position, first in enumerate(results[0]):
        rows = [["", first.quantity.name, "against it as it is", ""]]
        for variant, mine in zip(variants, results, strict=True):
            result = mine[position]
            outcome = "" if variant is variants[0] else str(result.outcome)
            if variant.invalid or variants[0].invalid:
                outcome = outcome and "not judged: invalid runs"
            rows.append([variant.label, result.text, relative_text(result, first), outcome])
        parts += ["", columns(rows, indent="", left=1)]
    if repetitions == 1:
        parts += ["", "One run of each does not show random variation; --repetitions makes more."]
    for variant in variants:
        parts += [f"NOT VALID  {reason}" for reason in variant.invalid]
    return "\n".join(parts)

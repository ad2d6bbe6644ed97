"""``mptcplab compare``: run variants of a scenario several times and say which is better."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mptcplab.cli.repeated_runs import (
    DEFAULT_REPETITIONS,
    PlannedRun,
    add_jobs_argument,
    made,
    with_seed,
    workers_for,
)
from mptcplab.cli.scenario_arguments import add_scenario_arguments, load_scenario
from mptcplab.cli.verbosity import add_verbosity_arguments, say
from mptcplab.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    from mptcplab.limits.causes import Limit
    from mptcplab.limits.runs import Diagnosis
    from mptcplab.report.comparison import Quantity, Result
    from mptcplab.results.run import Run
    from mptcplab.scenario import Scenario

AS_IT_IS = "as it is"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "compare",
        help="run variants of a scenario several times and say which is better",
        description="Run a scenario and variants of it several times each, and say for the goodput "
        "of every flow (of a flow with a size, for its completion time) whether a variant is "
        "better or worse, with 95 % confidence intervals, corrected where several are judged. The "
        "N-th runs of all variants have the same seed, which also decides the starts of flows.",
        epilog="Examples: mptcplab compare my.toml --tcp (does MPTCP help on my links?); mptcplab "
        "compare my.toml --plugins --variant tunables.scheduler=mine:MostRoom --repetitions 10 "
        "(does my scheduler beat the default?). Exit status: 0 every run is valid, 1 one is not, 2 "
        "bad input, 3 this machine cannot.",
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
        help=f"runs of each variant (default: the scenario's, or {DEFAULT_REPETITIONS})",
    )
    parser.add_argument(
        "--on", choices=sorted(TESTBEDS), default=DEFAULT, help="the testbed (default: %(default)s)"
    )
    add_jobs_argument(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for all runs, new or empty")
    add_verbosity_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


@dataclass(slots=True)
class Variant:
    """One variant and the results of its runs."""

    label: str
    overrides: tuple[str, ...]
    scenario: Scenario
    quantities: list[dict[Quantity, float | None]] = field(default_factory=list)
    valid: list[bool] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    diagnoses: list[list[Diagnosis]] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Add a run, the one of the next seed."""
        from mptcplab.limits.runs import run_limits
        from mptcplab.report.comparison import measured

        self.quantities.append(measured(run))
        self.diagnoses.append(run_limits(run))
        self.valid.append(run.metadata["valid"])
        self.runs.append(str(run.folder))
        self.invalid += [f"{run.folder}: {reason}" for reason in run.metadata["invalid_reasons"]]

    @property
    def limits(self) -> list[Limit]:
        """What held its connections back, as the mean of its valid runs."""
        from mptcplab.limits.runs import mean_limits

        pairs = zip(self.diagnoses, self.valid, strict=True)
        return mean_limits([diagnoses for diagnoses, valid in pairs if valid])

    @property
    def counted(self) -> list[dict[Quantity, float | None] | None]:
        """The quantities of its runs, None for those that are not valid."""
        pairs = zip(self.quantities, self.valid, strict=True)
        return [quantities if valid else None for quantities, valid in pairs]


def run(args: argparse.Namespace) -> int:
    """Run and compare all variants; 0 where every run is valid, 1 where one is not."""
    from mptcplab.cli.repeated_runs import folder_names, repetitions_of, seeds_of
    from mptcplab.report.comparison import compared, draw_comparison
    from mptcplab.results.writer import is_free
    from mptcplab.scenario import ScenarioError

    variants = _variants(args)
    scenario = variants[0].scenario
    stated = scenario.repetitions if scenario.repetitions > 1 else DEFAULT_REPETITIONS
    repetitions = repetitions_of(args, stated)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    out = args.out or Path("runs") / f"{stamp}-compare-{scenario.name}-{args.on}"
    if not is_free(out):
        raise ScenarioError(f"--out {out}", "", "exists already", "a new or empty folder")
    asked = max((variant.scenario for variant in variants), key=_randomness)
    count = len(seeds_of(args.on, asked, repetitions))
    written = [f"comparison.{suffix}" for suffix in ("json", "png", "svg")]
    names = folder_names([variant.label for variant in variants], written)
    planned = [
        _planned(args.on, variant, number, out / names[variant.label])
        for number in range(count)
        for variant in variants
    ]
    _make(args, variants, planned)
    quantities = list(variants[0].quantities[0])
    results = compared(quantities, [variant.counted for variant in variants])
    labels = [variant.label for variant in variants]
    title = f"{scenario.name} on {args.on}, {_runs(count)} of each: mean and 95 % interval"
    figure = draw_comparison(title, labels, results, out / "comparison")[0]
    summary = _summary(args, variants, results, count)
    (out / "comparison.json").write_text(json.dumps(summary, indent=2) + "\n")
    if args.json:
        print(json.dumps(summary))
    else:
        print(_text(args, variants, results, count))
        print(f"\nRuns    {out}\nFigure  {figure}")
    return 1 if any(variant.invalid for variant in variants) else 0


def _randomness(scenario: Scenario) -> int:
    from mptcplab.scenario.repetition import random_sources

    return len(random_sources(scenario))


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"


def _variants(args: argparse.Namespace) -> list[Variant]:
    """Return the scenario as it is and every variant, all checked and all different."""
    from mptcplab.scenario import ScenarioError

    base = load_scenario(args)
    common = tuple(args.overrides)
    wanted = [(", ".join(texts), tuple(texts)) for texts in args.variants]
    labels = [label for label, _ in wanted]
    for label in labels:
        if labels.count(label) > 1:
            raise ScenarioError(f"--variant {label}", "", "is given twice", "each variant once")
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
        args.overrides = [*common, *overrides]
        variant = Variant(label, overrides, load_scenario(args))
        for other in variants:
            if replace(variant.scenario, overrides=()) == replace(other.scenario, overrides=()):
                same = "the scenario as it is" if other is variants[0] else other.label
                raise ScenarioError(
                    f"--variant {label}",
                    "",
                    f"is the same as {same}: the keys come to the same values",
                    "variants that differ",
                )
        variants.append(variant)
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


def _planned(on: str, variant: Variant, number: int, folder: Path) -> PlannedRun:
    seed = variant.scenario.seed + number
    scenario = with_seed(variant.scenario, seed)
    return PlannedRun(on, scenario, folder / str(seed), f"{variant.label}, seed {seed}")


def _make(args: argparse.Namespace, variants: list[Variant], planned: list[PlannedRun]) -> None:
    """Make all runs, the first ones of all variants first, and give each variant its own."""
    runs: dict[Path, Run] = {}
    workers = workers_for(args.on, args.jobs, len(planned))
    for each, run in made(planned, workers):
        runs[each.folder] = run
        title = f"[{len(runs)}/{len(planned)}] {each.title}"
        say(f"{title}: {_headline(run)}")
    for place, each in enumerate(planned):
        variants[place % len(variants)].add(runs[each.folder])


def _headline(done: Run) -> str:
    from mptcplab.report.comparison import measured

    shown = [
        f"{quantity.name} {'-' if value is None else quantity.text(value)}"
        for quantity, value in measured(done).items()
    ]
    text = ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
    text += "" if done.metadata["valid"] else ", NOT VALID"
    return f"{text} ({done.metadata['wall_s']:.1f} s)"


def _summary(
    args: argparse.Namespace,
    variants: list[Variant],
    results: list[list[Result]],
    repetitions: int,
) -> dict[str, Any]:
    """Return the object that ``--json`` prints; see ``docs/reference/results.md``."""
    from mptcplab.report.limits import as_json

    scenario = variants[0].scenario
    return {
        "scenario": scenario.name,
        "testbed": args.on,
        "repetitions": repetitions,
        "seeds": [scenario.seed + number for number in range(repetitions)],
        "settle_s": (scenario.settle_ns or 0) / 1e9,
        "judged_together": _judged(results),
        "limits": as_json(variants[0].limits),
        "variants": [
            {
                "label": variant.label,
                "set": list(variant.overrides),
                "valid": not variant.invalid,
                "valid_runs": sum(variant.valid),
                "invalid_reasons": variant.invalid,
                "runs": variant.runs,
                "limits": as_json(variant.limits),
                "quantities": [
                    {
                        "name": result.quantity.name,
                        "unit": "s" if result.quantity.is_time else "bit/s",
                        "values": [values[result.quantity] for values in variant.quantities],
                        "value": None if result.value is None else asdict(result.value),
                        "difference": result.difference and asdict(result.difference),
                        "corrected_p_value": result.p_value,
                        "outcome": result.outcome,
                    }
                    for result in mine
                ],
            }
            for variant, mine in zip(variants, results, strict=True)
        ],
    }


def _judged(results: list[list[Result]]) -> int:
    return sum(result.p_value is not None for mine in results for result in mine)


def _text(
    args: argparse.Namespace,
    variants: list[Variant],
    results: list[list[Result]],
    repetitions: int,
) -> str:
    from mptcplab.report.differences import percent_text
    from mptcplab.report.limits import limits_text
    from mptcplab.text_table import columns

    scenario = variants[0].scenario
    parts = [
        f"{scenario.name}: {scenario.title}" if scenario.title else scenario.name,
        f"{_runs(repetitions)} of each on {args.on}, from seed {scenario.seed} on; mean ± 95 % "
        f"confidence; {_settled(scenario)}",
    ]
    for variant in variants:
        text = limits_text(variant.limits, f"What held the connections back: {variant.label}")
        if text:
            parts += ["", text]
    for position, first in enumerate(results[0]):
        rows = [["", first.quantity.name, "against it as it is", "", ""]]
        for variant, mine in zip(variants, results, strict=True):
            result = mine[position]
            is_first = variant is variants[0]
            method = "" if result.difference is None else result.difference.method
            if result.p_value is None:
                method = ""
            rows.append(
                [
                    variant.label,
                    result.text,
                    percent_text(result.difference, first.value),
                    "" if is_first else str(result.outcome),
                    method,
                ]
            )
        parts += ["", columns(rows, indent="", left=1)]
    parts += ["", *_remarks(variants, results, repetitions)]
    return "\n".join(parts).rstrip()


def _settled(scenario: Scenario) -> str:
    from mptcplab.units import format_duration

    if not scenario.settle_ns:
        return "goodput with its start-up"
    return f"goodput without the first {format_duration(scenario.settle_ns)}"


def _remarks(variants: list[Variant], results: list[list[Result]], repetitions: int) -> list[str]:
    """Return what to know of the table: how it was judged, what was not, what was left out."""
    lines = []
    judged = _judged(results)
    if judged > 1:
        lines.append(
            f"{judged} differences are judged: better and worse are corrected for that (Holm), "
            "each interval stands alone."
        )
    if repetitions == 1:
        lines.append(
            "One run of each does not show random variation: it is one observation, and nothing is "
            "judged."
        )
    elif any(
        result.value is not None and result.value.margin is None and result.value.count > 1
        for mine in results
        for result in mine
    ):
        lines.append(
            "Runs that do not differ with their seeds are one observation: they have no ±, and two "
            "such variants are not judged."
        )
    for variant in variants:
        left_out = len(variant.valid) - sum(variant.valid)
        if left_out:
            lines.append(f"{variant.label}: {left_out} of {_runs(repetitions)} left out:")
        lines += [f"NOT VALID  {reason}" for reason in variant.invalid]
    return lines

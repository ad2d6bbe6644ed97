"""``mptcplab goals``: the design goals of RFC 6356 and fairness, measured by repeated runs."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from mptcplab.cli.repeated_runs import (
    DEFAULT_REPETITIONS,
    PlannedRun,
    add_jobs_argument,
    made,
    repetitions_of,
    seeds_of,
    with_seed,
    workers_for,
)
from mptcplab.cli.scenario_arguments import add_scenario_arguments, load_scenario
from mptcplab.cli.verbosity import add_verbosity_arguments, say
from mptcplab.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    from mptcplab.network.topology import Path
    from mptcplab.results.run import Run
    from mptcplab.results.statistics import Estimate
    from mptcplab.scenario.model import Flow, Scenario

EXAMPLE = FilePath(__file__).parents[1] / "scenario" / "data" / "examples" / "shared-link.toml"
SETTLED = 0.25  # of a run, where the scenario does not say how long start-up lasts


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "goals",
        help="judge a congestion control by the three goals of RFC 6356, and its fairness",
        description="Run a scenario in which one MPTCP flow over several paths shares its first "
        "path with TCP flows. Run it again with a TCP flow in its place on each path, and with "
        "uncoupled subflows. Say whether the goals of RFC 6356 are met, and how fair the shares "
        "were, without the start-up (the scenario's settle, or a quarter of the run). A goal is "
        "undecided when the 95 % interval includes its limit.",
        epilog="Examples: mptcplab goals --congestion olia; mptcplab goals I --congestion lia "
        '--set \'flows.mptcp.links=["link6", "link5"]\' --duration 200s. Exit status: 0 every '
        "goal is met, 1 one is missed or undecided, 2 bad input, 3 this machine cannot.",
    )
    add_scenario_arguments(parser, default=EXAMPLE)
    parser.add_argument(
        "--congestion",
        metavar="NAME",
        help="congestion control of the MPTCP flow (default: the scenario's)",
    )
    parser.add_argument(
        "--on", choices=sorted(TESTBEDS), default=DEFAULT, help="the testbed (default: %(default)s)"
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        metavar="N",
        help="runs of each kind, each with the next seed "
        f"(default: the scenario's, or {DEFAULT_REPETITIONS})",
    )
    add_jobs_argument(parser)
    parser.add_argument("--out", type=FilePath, metavar="DIR", help="keep the runs in this folder")
    add_verbosity_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class Rates:
    """Results of one kind of run: goodput by flow and, of the judged flow, by path (bit/s)."""

    flows: dict[str, Estimate]
    links: dict[str, Estimate]
    jain: Estimate


def run(args: argparse.Namespace) -> int:
    """Measure and judge; the parser's epilog has the exit statuses."""
    from mptcplab.report import goals
    from mptcplab.scenario.errors import dotted

    scenario = load_scenario(args)
    flow, paths = _judged(scenario)
    if args.congestion:
        args.overrides.append(f"flows.{dotted((flow.name,))}.congestion={args.congestion}")
        scenario = load_scenario(args)
        flow, paths = _judged(scenario)
    shared = next(iter(paths))
    others = tuple(other for other in scenario.flows if other.name != flow.name)
    kinds = {"together": flow, "uncoupled": replace(flow, congestion="reno")}
    for name, path in paths.items():
        kinds[f"tcp on {name}"] = replace(flow, protocol="tcp", congestion="reno", links=path.links)
    stated = scenario.repetitions if scenario.repetitions > 1 else DEFAULT_REPETITIONS
    repetitions = len(seeds_of(args.on, scenario, repetitions_of(args, stated)))
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or FilePath(scratch)
        planned = {
            kind: _planned(
                args.on,
                replace(scenario, flows=(judged, *others)),
                out / kind.replace(" ", "-"),
                repetitions,
            )
            for kind, judged in kinds.items()
        }
        runs = _made(args, [each for several in planned.values() for each in several])
        names = {_first_link(flow, path): name for name, path in paths.items()}
        rates = {
            kind: _measured(scenario, flow.name, names, [runs[each.folder] for each in several])
            for kind, several in planned.items()
        }
    together = rates["together"]
    alone = {name: rates[f"tcp on {name}"].flows[flow.name] for name in paths}
    verdicts = [
        goals.improve_throughput(together.flows[flow.name], alone),
        goals.do_no_harm({name: together.links[name] for name in paths}, alone),
        goals.balance_congestion(shared, together.links[shared], rates["uncoupled"].links[shared]),
    ]
    _print(args, scenario, flow, rates, verdicts, repetitions)
    return 0 if all(verdict.outcome == "met" for verdict in verdicts) else 1


def _judged(scenario: Scenario) -> tuple[Flow, dict[str, Path]]:
    """Return the flow to judge and its paths by name, the one that it shares with TCP first.

    A path's name is that of its links.  Raises ScenarioError without such a flow.
    """
    from mptcplab.scenario import ScenarioError

    mptcp = [flow for flow in scenario.flows if flow.protocol == "mptcp"]
    tcp = [flow for flow in scenario.flows if flow.protocol == "tcp"]
    wanted = "one MPTCP flow over two paths or more that shares its first with a TCP flow"
    if len(mptcp) != 1 or not tcp:
        raise ScenarioError(scenario.source, "flows", "nothing to judge", wanted)
    paths = {"+".join(path.links): path for path in scenario.expected_subflows(mptcp[0])}
    if len(paths) < 2:
        raise ScenarioError(scenario.source, "flows", "nothing to judge", wanted)
    begins = [_first_link(mptcp[0], path) for path in paths.values()]
    for link in begins:
        if begins.count(link) > 1:
            raise ScenarioError(
                scenario.source,
                f"flows.{mptcp[0].name}",
                f"several of its subflows begin on {link}, and their rates are told apart by that",
                "paths whose first links differ",
            )
    first = next(iter(paths))
    if not any(
        set(paths[first].links) & set(path.links)
        for flow in tcp
        for path in scenario.expected_subflows(flow)
    ):
        raise ScenarioError(scenario.source, "flows", f"no TCP flow uses {first}", wanted)
    return mptcp[0], paths


def _first_link(flow: Flow, path: Path) -> str:
    """Return the link on which the sender's packets begin a path, which is the client's."""
    return path.links[0] if flow.client == flow.source else path.links[-1]


def _planned(on: str, scenario: Scenario, folder: FilePath, repetitions: int) -> list[PlannedRun]:
    seeds = range(scenario.seed, scenario.seed + repetitions)
    return [
        PlannedRun(on, with_seed(scenario, seed), folder / str(seed), f"{folder.name}, seed {seed}")
        for seed in seeds
    ]


def _made(args: argparse.Namespace, planned: list[PlannedRun]) -> dict[FilePath, Run]:
    """Make all runs and return them by folder; RunError for one that is not valid."""
    from mptcplab.results.run import RunError

    runs: dict[FilePath, Run] = {}
    for each, run in made(planned, workers_for(args.on, args.jobs, len(planned))):
        if not run.metadata["valid"]:
            reasons = "; ".join(run.metadata["invalid_reasons"])
            raise RunError(f"{each.folder}: not valid: {reasons}")
        runs[each.folder] = run
        say(f"[{len(runs)}/{len(planned)}] {each.title}")
    return runs


def _measured(scenario: Scenario, judged: str, paths: dict[str, str], runs: list[Run]) -> Rates:
    """Return means with margins; ``paths`` has the name of the judged flow's path on each first
    link.
    """
    from mptcplab.results import summary
    from mptcplab.results.statistics import estimate, jain_index

    flows: dict[str, list[float]] = {}
    links: dict[str, list[float]] = {}
    jain: list[float] = []
    start_ns, end_ns = _settle_ns(scenario), scenario.duration_ns
    counts = {flow.name: flow.connections for flow in scenario.flows}
    for run in runs:
        rates = summary.Rates(run).flows_bps(start_ns, end_ns)
        for name, bps in rates.items():
            flows.setdefault(name, []).append(bps)
        for link, bps in summary.shares_bps(run, judged, start_ns, end_ns).items():
            links.setdefault(paths[link], []).append(bps)
        each = [bps / counts[name] for name, bps in rates.items() for _ in range(counts[name])]
        jain.append(jain_index(each))
    return Rates(
        {name: estimate(values) for name, values in flows.items()},
        {name: estimate(values) for name, values in links.items()},
        estimate(jain),
    )


def _settle_ns(scenario: Scenario) -> int:
    """Return how much of a run's start is left out; ScenarioError where that is all of it."""
    from mptcplab.scenario import ScenarioError
    from mptcplab.units import format_duration

    if scenario.settle_ns is None:
        return round(scenario.duration_ns * SETTLED)
    if scenario.duration_ns - scenario.settle_ns < 2 * scenario.interval_ns:
        raise ScenarioError(
            scenario.source,
            "settle",
            f"{format_duration(scenario.settle_ns)} leaves too little of a run of "
            f"{format_duration(scenario.duration_ns)}",
            "two intervals at least",
        )
    return scenario.settle_ns


def _print(
    args: argparse.Namespace,
    scenario: Scenario,
    flow: Flow,
    rates_of: dict[str, Rates],
    verdicts: list[Any],
    repetitions: int,
) -> None:
    from mptcplab.report.goals import rate
    from mptcplab.text_table import columns
    from mptcplab.units import format_duration

    together = rates_of["together"]
    if args.json:
        print(
            json.dumps(
                {
                    "scenario": scenario.name,
                    "congestion": flow.congestion,
                    "repetitions": repetitions,
                    "settle_s": _settle_ns(scenario) / 1e9,
                    "runs": {kind: asdict(rates) for kind, rates in rates_of.items()},
                    "verdicts": [asdict(verdict) for verdict in verdicts],
                }
            )
        )
        return
    names = [each.name for each in scenario.flows]
    paths = list(together.links)
    rows = [["runs", *names, *(f"{flow.name} on {path}" for path in paths), "Jain's index"]]
    for kind, rates in rates_of.items():
        cells = [rate(rates.flows[name]) if name in rates.flows else "" for name in names]
        cells += [rate(rates.links[path]) if path in rates.links else "" for path in paths]
        rows.append([kind, *cells, f"{rates.jain.mean:.3f}"])
    left_out = format_duration(_settle_ns(scenario))
    many = "one run" if repetitions == 1 else f"{repetitions} runs"
    print(f"{scenario.name}: {flow.congestion}, {many} of each kind (mean ± 95 %)")
    print(f"goodput leaves out the first {left_out}\n")
    print(columns(rows, indent=""))
    for name in names:
        if name != flow.name:
            ratio = together.flows[flow.name].mean / max(together.flows[name].mean, 1.0)
            print(f"\n{flow.name} : {name} = {ratio:.2f} : 1")
    print()
    for verdict in verdicts:
        print(f"goal {verdict.goal}: {verdict.outcome}. {verdict.text}")

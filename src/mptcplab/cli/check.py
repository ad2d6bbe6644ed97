"""``mptcplab check``: what a scenario would build, without building it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from mptcplab.cli.scenario_arguments import add_scenario_arguments, load_scenario

if TYPE_CHECKING:
    from mptcplab.scenario.model import Scenario


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "check",
        help="validate a scenario or topology and print what it would build",
        description="Validate a scenario or a topology and print what it would build: hosts, "
        "links, expected subflows, the timeline, and whether the buffers suffice. Nothing is "
        "created.",
        epilog="Exit status: 0 it is valid, 2 it is not.",
    )
    add_scenario_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the scenario or topology; ScenarioError where it is wrong."""
    from mptcplab.scenario import is_topology, load_topology
    from mptcplab.scenario.describe import describe, describe_network

    if is_topology(args.scenario):
        topology = load_topology(args.scenario, overrides=tuple(args.overrides))
        if args.json:
            from mptcplab.scenario.to_json import as_plain

            print(json.dumps(as_plain(topology), indent=2))
        else:
            print("\n".join(describe_network(topology)))
        return 0
    scenario = load_scenario(args)
    _check_policies(scenario)
    if args.json:
        print(json.dumps(_as_json(scenario), indent=2))
    else:
        print(describe(scenario))
    return 0


def _check_policies(scenario: Scenario) -> None:
    """Raise PluginError for a class of the user's own that cannot be used."""
    names = [flow.congestion for flow in scenario.flows]
    for tunables in scenario.tunables.values():
        names += [tunables.scheduler, tunables.path_manager]
    if any(":" in name for name in names):
        from mptcplab.tuning.policies import check_policies

        check_policies(scenario)


def _as_json(scenario: Scenario) -> dict[str, Any]:
    """Return the resolved scenario with what follows from it."""
    from mptcplab.scenario.buffers import buffer_needs
    from mptcplab.scenario.describe import notes, stage_links
    from mptcplab.scenario.to_json import as_plain

    result: dict[str, Any] = as_plain(scenario)
    result["stages"] = [
        {"start_s": start_ns / 1e9, "end_s": end_ns / 1e9, "links_up": list(links)}
        for (start_ns, end_ns), links in stage_links(scenario)
    ]
    result["subflows"] = {
        flow.name: [as_plain(path) for path in scenario.expected_subflows(flow)]
        for flow in scenario.flows
    }
    result["buffers"] = [{**as_plain(need), "short": need.short} for need in buffer_needs(scenario)]
    result["notes"] = list(notes(scenario))
    return result

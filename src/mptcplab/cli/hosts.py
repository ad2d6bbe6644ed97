"""``mptcplab hosts``: the real hosts of a scenario, looked at, set up and as they were again."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from mptcplab.cli.scenario_arguments import add_scenario_arguments, load_scenario

if TYPE_CHECKING:
    from mptcplab.remote.report import HostReport
    from mptcplab.scenario import Scenario

_MACHINE_CANNOT: Final = 3


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "hosts",
        help="look at real hosts of a scenario, set them up, and undo that",
        description="Work with the machines that a scenario's hosts are (hosts.NAME.ssh): check "
        "says what each has and what would be changed on it, and changes nothing; up makes these "
        "changes and leaves them, for programs of your own; down undoes them, and what an agent "
        "that was killed has left; status says what stands. A run with --on hosts needs none of "
        "this: it sets up and undoes by itself.",
        epilog="Exit status: 0 done, 2 bad input, 3 a host cannot, or something stands in the way.",
    )
    add_scenario_arguments(parser)
    parser.add_argument("action", choices=["check", "up", "down", "status"], help="what to do")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; see the parser's description for the exit status."""
    scenario = load_scenario(args)
    if args.action == "check":
        reports = look_at(scenario)
        print_hosts(reports, as_json=args.json)
        return _MACHINE_CANNOT if any(report.problems for report in reports) else 0
    lines = {"up": _up, "down": _down, "status": _status}[args.action](scenario)
    if args.json:
        print(json.dumps(lines))
    else:
        for name, text in lines.items():
            print(f"{name}: {text}")
    return 0


def look_at(scenario: Scenario) -> list[HostReport]:
    """Return what each host has and what would be changed on it; nothing is."""
    from mptcplab.remote.fleet import Fleet
    from mptcplab.remote.report import report_hosts
    from mptcplab.remote.testbed import check_supported

    check_supported(scenario)
    with Fleet(scenario) as fleet:
        fleet.look()
        return report_hosts(fleet)


def print_hosts(reports: list[HostReport], *, as_json: bool) -> None:
    """Print what was found of hosts."""
    if as_json:
        print(json.dumps({"hosts": [asdict(report) for report in reports]}))
        return
    for number, report in enumerate(reports):
        print("\n" * (number > 0) + "\n".join(report.lines()))


def _up(scenario: Scenario) -> dict[str, str]:
    from mptcplab.remote.fleet import Fleet
    from mptcplab.remote.testbed import check_supported

    check_supported(scenario)
    with Fleet(scenario) as fleet:
        fleet.look()
        fleet.set_up()
        fleet.leave_standing()
        return {
            name: f"set up, {len(host.steps)} changes; to undo them: "
            f"mptcplab hosts {scenario.source} down"
            for name, host in fleet.set_ups.items()
        }


def _down(scenario: Scenario) -> dict[str, str]:
    from mptcplab.remote.fleet import Fleet

    with Fleet(scenario) as fleet:
        return {
            name: f"{count} changes undone" if count else "there was nothing to undo"
            for name, count in fleet.undo().items()
        }


def _status(scenario: Scenario) -> dict[str, str]:
    from mptcplab.remote.fleet import Fleet

    with Fleet(scenario) as fleet:
        return {name: _said(fleet.journal(name)) for name in fleet.lines}


def _said(journal: dict[str, object] | None) -> str:
    if journal is None:
        return "nothing is set up"
    what = "set up" if journal["standing"] else "left by an agent that was killed"
    return f"{what}, {journal['changes']} changes, by {journal['who']} since {journal['since']}"

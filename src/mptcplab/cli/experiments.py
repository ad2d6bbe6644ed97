"""``mptcplab experiments``: list the built-in scenarios and the question that each asks."""

from __future__ import annotations

import argparse
import json


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "experiments",
        help="list the built-in scenarios and the question each asks",
        description="List the experiments of the 2012 report that come with mptcplab, by the name "
        "that `run` and `check` take.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from mptcplab.scenario import experiments

    listed = experiments()
    if args.json:
        rows = [
            {
                "name": experiment.name,
                "title": experiment.title,
                "question": experiment.question,
                "section": experiment.section,
                "figures": list(experiment.figures),
                "file": str(experiment.path),
            }
            for experiment in listed
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for experiment in listed:
        where = experiment.section
        where = f"section {where}" if where[:1].isdigit() else where
        print(f"{experiment.name}  {experiment.title} ({where})")
        print(f"   {experiment.question}")
    return 0

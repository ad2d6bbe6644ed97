"""``mptcplab experiments``: the built-in scenarios and the question each asks."""

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

    found = experiments()
    if args.json:
        rows = [
            {
                "name": item.name,
                "title": item.title,
                "question": item.question,
                "section": item.section,
                "file": str(item.path),
            }
            for item in found
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for item in found:
        print(f"{item.name}  {item.title} (section {item.section})")
        print(f"   {item.question}")
    return 0

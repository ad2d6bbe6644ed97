"""``mptcplab experiments``: list the built-in scenarios, and what each asks and teaches."""

from __future__ import annotations

import argparse
import json
from textwrap import fill


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "experiments",
        help="list the built-in scenarios and the question each asks",
        description="List the experiments of the 2012 report and the examples that come with "
        "mptcplab, by the name that `run` and `check` take, with the question that each asks and, "
        "of examples, what one learns.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from mptcplab.scenario import examples, experiments

    listed = [*experiments(), *examples()]
    if args.json:
        rows = [
            {
                "name": each.name,
                "title": each.title,
                "question": each.question,
                "lesson": each.lesson,
                "section": each.section,
                "figures": list(each.figures),
                "file": str(each.path),
            }
            for each in listed
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for each in listed:
        where = f"section {each.section}" if each.section[:1].isdigit() else each.section
        print(f"{each.name}  {each.title}" + (f" ({where})" if where else ""))
        print(_paragraph(each.question))
        if each.lesson:
            print(_paragraph(each.lesson))
    return 0


def _paragraph(text: str) -> str:
    return fill(text, 100, initial_indent="   ", subsequent_indent="   ")

"""``mptcplab schema``: the scenario file's JSON Schema for editors, or its reference page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "schema",
        help="print the scenario file's JSON Schema, for editors",
        description="Print the JSON Schema (Draft 2020-12) of scenario files. Editors that support "
        "it (Even Better TOML, Taplo) complete and check keys: write "
        '"#:schema FILE" in the first line of a scenario.',
        epilog="Exit status: 0 done, 2 FILE cannot be written.",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this file")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--topology", action="store_true", help="print the schema of topology files instead"
    )
    form.add_argument(
        "--documentation", action="store_true", help="print the reference page (Markdown) instead"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print or write the schema."""
    from mptcplab.scenario import ScenarioError

    if args.documentation:
        from mptcplab.scenario.schema.documentation import reference_page

        text = reference_page()
    else:
        from mptcplab.scenario.schema.json_schema import json_schema
        from mptcplab.scenario.schema.keys import SCENARIO, TOPOLOGY

        text = json.dumps(json_schema(TOPOLOGY if args.topology else SCENARIO), indent=2) + "\n"
    if args.output is None:
        sys.stdout.write(text)
        return 0
    try:
        Path(args.output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScenarioError(
            args.output,
            "",
            f"cannot be written: {error.strerror}",
            "a file in a folder that exists",
        ) from error
    return 0

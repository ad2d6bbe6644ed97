"""How much a command tells on standard error while it works: -q nothing, -v everything.

Errors are told in any case, and results go to standard output.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import Final

QUIET: Final = -1
NORMAL: Final = 0
VERBOSE: Final = 1


class _Chosen:
    """What the command line that is run asked for."""

    verbosity = NORMAL


def add_verbosity_arguments(parser: argparse.ArgumentParser) -> None:
    """Add -q and -v."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=QUIET,
        default=NORMAL,
        help="no progress: results, warnings and errors only",
    )
    group.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="store_const",
        const=VERBOSE,
        default=NORMAL,
        help="say more: which build this is, and line by line what goes on, also in a terminal",
    )


def choose_verbosity(args: argparse.Namespace) -> None:
    """Take up what a command line asks for."""
    _Chosen.verbosity = getattr(args, "verbosity", NORMAL)
    if _Chosen.verbosity == VERBOSE:
        from mptcplab.provenance import this_build

        say(f"mptcplab: {this_build().text}", VERBOSE)


def is_told(level: int) -> bool:
    """Say whether what is for this level and those above is told."""
    return _Chosen.verbosity >= level


def say(text: str, level: int = NORMAL) -> None:
    """Write a line to standard error, where the level is asked for."""
    if is_told(level):
        with suppress(OSError):  # whoever read it has gone; the work goes on
            print(text, file=sys.stderr, flush=True)

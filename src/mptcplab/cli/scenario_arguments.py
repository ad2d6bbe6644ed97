"""The arguments that say which scenario, and how it is to differ from its file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mptcplab.scenario import Scenario

T = TypeVar("T")


def add_scenario_arguments(parser: argparse.ArgumentParser) -> None:
    """Add SCENARIO, --set, --duration, --time-scale, --interval and --seed."""
    parser.add_argument("scenario", metavar="SCENARIO", help="a file, or a built-in name such as A")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a key of the file, as in flows.*.buffer=10MB (repeatable)",
    )
    parser.add_argument(
        "--duration", metavar="T", help="run this long; timeline and flows keep their shape"
    )
    parser.add_argument(
        "--time-scale",
        metavar="X",
        help="multiply all times of timeline and flows, as in 0.05; links stay as they are",
    )
    parser.add_argument("--interval", metavar="T", help="time between samples (1s)")
    parser.add_argument("--seed", metavar="N", help="seed of everything random")


def load_scenario(args: argparse.Namespace) -> Scenario:
    """Return the scenario that the arguments name; ScenarioError for what is wrong with them."""
    from mptcplab.scenario import load
    from mptcplab.units import parse_duration

    return load(
        args.scenario,
        duration_ns=_parsed("--duration", args.duration, parse_duration),
        time_scale=_parsed("--time-scale", args.time_scale, _factor),
        interval_ns=_parsed("--interval", args.interval, parse_duration),
        overrides=tuple(args.overrides),
        seed=_parsed("--seed", args.seed, _seed),
    )


def _parsed(option: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    from mptcplab.scenario import ScenarioError
    from mptcplab.units import UnitError

    if text is None:
        return None
    try:
        return parse(text)
    except UnitError as error:
        problem, _, expected = str(error).partition("; expected ")
        raise ScenarioError(option, "", problem, expected) from error


def _factor(text: str) -> float:
    from mptcplab.units import UnitError

    try:
        return float(text)
    except ValueError as error:
        raise UnitError(f"{text!r} is not a number; expected a factor such as 0.05") from error


def _seed(text: str) -> int:
    from mptcplab.units import UnitError

    if not text.isdecimal():
        raise UnitError(f"{text!r} is not a whole number; expected a seed such as 1")
    return int(text)

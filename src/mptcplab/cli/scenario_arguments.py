"""The arguments that choose a scenario and change it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptcplab.scenario import Scenario


def add_scenario_arguments(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """Add SCENARIO (optional with a default), --set, and the options for times and the seed."""
    text = "a scenario file, or a built-in name such as A or examples/wifi-and-lte"
    if default is None:
        parser.add_argument("scenario", metavar="SCENARIO", help=text)
    else:
        parser.add_argument(
            "scenario",
            metavar="SCENARIO",
            nargs="?",
            default=str(default),
            help=f"{text} (default: {default.name})",
        )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a key of the scenario, as in flows.*.buffer=10MB (repeatable)",
    )
    add_plugins_argument(parser)
    parser.add_argument(
        "--duration", metavar="T", help="duration of the run; timeline and flows scale with it"
    )
    parser.add_argument(
        "--time-scale",
        type=float,
        metavar="X",
        help="multiply all times of timeline and flows, as in 0.05; links do not change",
    )
    parser.add_argument(
        "--interval", metavar="T", help="time between samples (default: the scenario's)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of all random numbers (default: the scenario's)"
    )


def add_plugins_argument(parser: argparse.ArgumentParser) -> None:
    """Add --plugins, without which no scenario runs code."""
    parser.add_argument(
        "--plugins",
        action="store_true",
        help='let the scenario use classes of your own ("module:Class"): their modules run as you',
    )


def load_scenario(args: argparse.Namespace, *, check_points: bool = True) -> Scenario:
    """Return the scenario that the arguments name; ScenarioError for what is wrong with them.

    ``check_points`` is False for one point of many, as for :func:`mptcplab.scenario.load`.
    """
    from mptcplab.scenario import load

    return load(
        args.scenario,
        duration_ns=_duration("--duration", args.duration),
        time_scale=args.time_scale,
        interval_ns=_duration("--interval", args.interval),
        overrides=tuple(args.overrides),
        seed=args.seed,
        check_points=check_points,
        plugins=args.plugins,
    )


def _duration(option: str, text: str | None) -> int | None:
    from mptcplab.scenario import ScenarioError
    from mptcplab.units import UnitError, parse_duration

    if text is None:
        return None
    try:
        return parse_duration(text)
    except UnitError as error:
        problem, _, expected = str(error).partition("; expected ")
        raise ScenarioError(option, "", problem, expected) from error

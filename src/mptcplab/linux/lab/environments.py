"""Which links the report's script of appendix D set up: ``interfaces HOST lan|wan|all 1|10|2``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mptcplab.units import UnitError, parse_rate

MANAGEMENT: Final = "man"
_TEN_GIGABIT: Final = 10_000_000_000

Part = Mapping[str, Any]
"""A link, or a host's interface: ``name``, ``environment``, ``rate_bps`` and ``spare``."""

Fits = Callable[[int | None], bool]
"""Whether a rate (bit/s, None for unlimited) is of the speed that was asked for."""


def parse_speed(text: str | None) -> Fits:
    """Return which rates a speed stands for; UnitError for a text that is none.

    As in the script, "1" takes away what has 10 Gb/s and keeps the loop of 300 Mb/s, and "10" takes
    away the rest; "2", which it had for the WAN alone ("only the Geneve links"), is "1".  A rate
    such as "300Mb/s" stands for itself.
    """
    if text is None:
        return lambda _: True
    if text in ("1", "2"):
        return lambda rate_bps: rate_bps is not None and rate_bps < _TEN_GIGABIT
    if text == "10":
        return lambda rate_bps: rate_bps is None or rate_bps >= _TEN_GIGABIT
    if text.replace(".", "", 1).isdigit():
        raise UnitError(
            f'"{text}" is none of the script\'s speeds; expected 1, 10, or a rate with '
            "its unit such as 300Mb/s"
        )
    wanted_bps = parse_rate(text)
    return lambda rate_bps: rate_bps == wanted_bps


def of_environment(parts: Iterable[Part], environment: str, fits: Fits) -> list[Part]:
    """Return the parts of an environment ("all": of each but management) that fit a speed."""
    return [
        part
        for part in parts
        if part["environment"] != MANAGEMENT
        and environment in ("all", part["environment"])
        and fits(part["rate_bps"])
    ]


def switched(parts: Iterable[Part], environment: str, fits: Fits) -> dict[str, bool]:
    """Return by name what is to be up and what down; management is left as it is.

    Spare ones are down, as the script left VLAN 2000.
    """
    every = list(parts)
    up = {part["name"] for part in of_environment(every, environment, fits) if not part["spare"]}
    return {part["name"]: part["name"] in up for part in every if part["environment"] != MANAGEMENT}

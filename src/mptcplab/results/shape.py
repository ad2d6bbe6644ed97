"""What ``run.json`` must hold for a run to be shown, compared or drawn: keys, types and bounds.

A run folder may be damaged, or a stranger's.  What reads it may rely on what :func:`problems` has
let pass; keys that are not named here are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST: Final = 2**63 - 1
"""The largest whole number, as in the tables: bytes, nanoseconds, bits per second."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``least`` to ``MOST``."""

    least: int = 0


@dataclass(frozen=True, slots=True)
class Number:
    """A number from ``least`` to ``MOST``, whole or not."""

    least: float = 0.0


@dataclass(frozen=True, slots=True)
class Text:
    """A text."""


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A list of two: a text, and a single value; with ``both`` that is a text too."""

    both: bool = False


@dataclass(frozen=True, slots=True)
class Maybe:
    """A value, or null."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of values alike; with ``key``, of objects that all have another value of that key."""

    shape: Shape
    key: str = ""


@dataclass(frozen=True, slots=True)
class Mapped:
    """An object of free keys, with values alike."""

    shape: Shape


Shape = Whole | Number | Text | Flag | Pair | Maybe | ListOf | Mapped | Mapping[str, Any]
"""A mapping has the shapes of an object's keys; with ``?`` before a key it may be absent."""

_MEASURED: Final = {
    "value_bps": Whole(1),
    "source": Text(),
    "note": Text(),
    "of": Text(),
    "stage": Maybe(Whole()),
    "?kind": Text(),
}
_CHANNEL: Final = {"rate_bps": Maybe(Whole()), "?overhead_bytes": Whole()}
_SCENARIO: Final = {
    "name": Text(),
    "title": Text(),
    "duration_ns": Whole(),
    "interval_ns": Whole(1),
    "seed": Whole(),
    "time_scale": Number(),
    "?settle_ns": Maybe(Whole()),
    "?captures": ListOf(Text()),
    "?tunables": Mapped({}),
    "topology": {
        "links": ListOf(
            {
                "name": Text(),
                "a": Text(),
                "b": Text(),
                "forward": _CHANNEL,
                "backward": _CHANNEL,
                "?mtu": Whole(),
            },
            key="name",
        )
    },
    "flows": ListOf(
        {
            "name": Text(),
            "source": Text(),
            "destination": Text(),
            "client": Text(),
            "connections": Whole(1),
            "protocol": Text(),
            "start_ns": Whole(),
            "stop_ns": Maybe(Whole()),
            "size_bytes": Maybe(Whole()),
            "?application": Text(),
            "?workload": Maybe(
                {
                    "?chunk_ns": Whole(1),
                    "?startup_ns": Whole(),
                    "?objects": Whole(),
                    "?count": Maybe(Whole()),
                }
            ),
        },
        key="name",
    ),
    "timeline": ListOf(
        {
            "at_ns": Whole(),
            "label": Text(),
            "target": Text(),
            "verb": Text(),
            "changes": ListOf(Pair()),
            "?repeated": Flag(),
        }
    ),
    "expectations": ListOf(
        {
            "value_bps": Whole(1),
            "tolerance": Number(),
            "stage": Maybe(Whole()),
            "of": Text(),
            "at_least": Flag(),
            "settle_ns": Whole(),
            "source": Text(),
        }
    ),
    "?latency_expectations": ListOf(
        {
            "most_ns": Whole(1),
            "of": Text(),
            "percentile": Number(),
            "stage": Maybe(Whole()),
            "source": Text(),
        }
    ),
    "report": {
        "measured": ListOf(_MEASURED),
        "?findings": ListOf({"text": Text(), "source": Text(), "stage": Maybe(Whole())}),
    },
}
_FLOW_LIMITS: Final = ListOf(
    {
        "flow": Text(),
        "paths": ListOf(
            {
                "source": Text(),
                "destination": Text(),
                "links": ListOf(Pair(both=True)),
                "rate_bps": Maybe(Whole()),
                "rtt_ns": Whole(),
                "?queue_ns": Whole(),
                "nics": ListOf(
                    {"name": Text(), "rate_bps": Whole(1), "links": ListOf(Pair(both=True))}
                ),
            }
        ),
        "send_buffer_bytes": Maybe(Whole()),
        "send_buffer_max_bytes": Whole(),
        "receive_buffer_bytes": Maybe(Whole()),
        "receive_buffer_max_bytes": Whole(),
        "?receive_window_max_bytes": Maybe(Whole()),
        "?window_share": Maybe(Number()),
    }
)
RUN: Final[Shape] = {
    "scenario": _SCENARIO,
    "testbed": Text(),
    "valid": Flag(),
    "invalid_reasons": ListOf(Text()),
    "measured_ns": Whole(),
    "wall_s": Number(),
    "drivers": Mapped(Text()),
    "flows": ListOf(
        {
            "flow": Text(),
            "connection": Whole(),
            "bytes": Whole(),
            "protocol": Text(),
            "?stalled_since_ns": Maybe(Whole()),
            "intact": Maybe(Flag()),
            "?end_ns": Maybe(Whole()),
            "?drained_bytes": Maybe(Whole()),
        }
    ),
    "?flow_limits": _FLOW_LIMITS,
    "?fabric": ListOf({"switch": Text(), "link": Text()}),
    "?notes": ListOf(Text()),
    "?origin_unix_ns": Maybe(Whole()),
}


def problems(value: Any, shape: Shape, missing: list[str], place: str = "") -> Iterator[str]:
    """Yield what keeps a value from having a shape, each as one phrase that names the place.

    Keys that are not there go into ``missing``.
    """
    if isinstance(shape, Mapping):
        yield from _of_object(value, shape, missing, place)
    elif isinstance(shape, Mapped):
        if not isinstance(value, dict):
            yield f"{place} is no object"
        else:
            for key, item in value.items():
                yield from problems(item, shape.shape, missing, f"{place}.{key}")
    elif isinstance(shape, ListOf):
        yield from _of_list(value, shape, missing, place)
    elif isinstance(shape, Maybe):
        if value is not None:
            yield from problems(value, shape.shape, missing, place)
    else:
        wanted = _wanted(value, shape)
        if wanted:
            yield f"{place} is not {wanted}"


def _of_object(
    value: Any, shape: Mapping[str, Any], missing: list[str], place: str
) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place or 'it'} is no object"
        return
    for name, below in shape.items():
        key = name.removeprefix("?")
        where = f"{place}.{key}" if place else key
        if key in value:
            yield from problems(value[key], below, missing, where)
        elif key == name:
            missing.append(where)


def _of_list(value: Any, shape: ListOf, missing: list[str], place: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{place} is no list"
        return
    seen = set()
    for number, item in enumerate(value):
        yield from problems(item, shape.shape, missing, f"{place}.{number}")
        if shape.key and isinstance(item, dict) and isinstance(item.get(shape.key), str):
            name = item[shape.key]
            if name in seen:
                yield f'{place} has "{name}" twice'
            seen.add(name)


def _wanted(value: Any, shape: Shape) -> str:
    """Return what a single value should be, or nothing where it is that."""
    if isinstance(shape, Text):
        return "" if isinstance(value, str) else "text"
    if isinstance(shape, Flag):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(shape, Pair):
        right = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
        right = right and not isinstance(value[1], list | dict)
        if shape.both:
            return "" if right and isinstance(value[1], str) else "a list of two texts"
        return "" if right else "a list of a key and its value"
    assert isinstance(shape, Whole | Number)
    kinds = int if isinstance(shape, Whole) else int | float
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if right and shape.least <= value <= MOST:
        return ""
    what = "a whole number" if isinstance(shape, Whole) else "a number"
    return f"{what} from {shape.least:g} to 2^63 - 1"

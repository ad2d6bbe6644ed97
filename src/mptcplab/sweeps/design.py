"""Which points a sweep has: lists in a grid, lists side by side, and draws from ranges.

A list of values is ``KEY=a,b,c``, with the key and the values as ``--set`` takes them; a range is
``KEY=10..100Mb/s``, of which values are drawn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Final, Literal

from mptcplab.scenario.errors import ScenarioError
from mptcplab.units import (
    NANOSECONDS,
    UnitError,
    parse_duration,
    parse_fraction,
    parse_rate,
    parse_size,
)

MOST_POINTS: Final = 100_000
"""Of one sweep; a mistyped list shall not fill the memory."""

_OPENING: Final = "([{"
_CLOSING: Final = ")]}"
_DIGITS: Final = 6
"""Significant ones of what is drawn from a range."""

Sampling = Literal["random", "latin"]


@dataclass(frozen=True, slots=True)
class Values:
    """The values that one key takes, as texts for ``--set``."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """What values of one key are drawn from: evenly, or evenly in their logarithm."""

    key: str
    low: float
    high: float
    unit: str = ""
    logarithmic: bool = False
    whole: bool = False

    def at(self, share: float) -> str:
        """Return the value at this share (0 to 1) of the range, as a text for ``--set``."""
        top = self.high + 1 if self.whole else self.high
        if self.logarithmic:
            value = self.low * (top / self.low) ** share
        else:
            value = self.low + (top - self.low) * share
        if self.whole:
            return f"{min(math.floor(value), round(self.high))}"
        return f"{value:.{_DIGITS}g}{self.unit}"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A point that a scenario file names, with what it sets and its place on the axis."""

    label: str
    overrides: tuple[str, ...]
    x: float


@dataclass(frozen=True, slots=True)
class Point:
    """One variant of the scenario: the value of each parameter, and what ``--set`` would take."""

    number: int
    values: Mapping[str, str]
    overrides: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its parameters in words, without the keys' common beginnings."""
        if not self.values:
            return "as it is"
        return ", ".join(
            value if key == LABEL else f"{key.rpartition('.')[2]}={value}"
            for key, value in self.values.items()
        )


LABEL: Final = "label"
"""The parameter whose values are the labels of a scenario file's points."""


@dataclass(frozen=True, slots=True)
class Design:
    """What is varied: ``over`` crossed with all others, ``zipped`` side by side, ``labelled`` as
    the file has them, and ``sampled`` ranges, ``samples`` draws of all of them together.
    """

    over: tuple[Values, ...] = ()
    zipped: tuple[Values, ...] = ()
    labelled: tuple[Labelled, ...] = ()
    sampled: tuple[Range, ...] = ()
    samples: int = 0
    sampling: Sampling = "latin"
    seed: int = 1
    axis: str = ""
    """What the points of the file are places on."""

    @property
    def parameters(self) -> list[str]:
        """The keys that are varied, in the order in which they were given."""
        keys = [LABEL] if self.labelled else []
        keys += [each.key for each in (*self.over, *self.zipped)]
        return keys + [each.key for each in self.sampled]

    def points(self) -> list[Point]:
        """Return all points, the last parameter changing fastest."""
        dimensions: list[list[tuple[dict[str, str], tuple[str, ...]]]] = []
        if self.labelled:
            dimensions.append([({LABEL: each.label}, each.overrides) for each in self.labelled])
        dimensions += [
            [_setting([(each.key, value)]) for value in each.values] for each in self.over
        ]
        if self.zipped:
            rows = zip(*(each.values for each in self.zipped), strict=True)
            keys = [each.key for each in self.zipped]
            dimensions.append([_setting(zip(keys, row, strict=True)) for row in rows])
        if self.sampled:
            dimensions.append([_setting(draw) for draw in self._draws()])
        count = math.prod(len(each) for each in dimensions)
        if count > MOST_POINTS:
            raise ScenarioError("sweep", "", f"it has {count} points", f"{MOST_POINTS} at most")
        points = []
        for number, settings in enumerate(product(*dimensions)):
            values: dict[str, str] = {}
            overrides: list[str] = []
            for values_of, overrides_of in settings:
                values |= values_of
                overrides += overrides_of
            points.append(Point(number, values, tuple(overrides)))
        return points

    def columns(self, points: Sequence[Point]) -> list[Column]:
        """Return the parameters' columns; a file's points count by their ``x`` where all have one
        of their own.
        """
        columns = []
        for key in self.parameters:
            column = column_of(key, (point.values[key] for point in points))
            if key == LABEL:
                places = {each.label: each.x for each in self.labelled}
                if list(places.values()) != [float(number) for number in range(len(places))]:
                    column = Column(key, column.texts, "", places, self.axis)
            columns.append(column)
        return columns

    def _draws(self) -> Iterator[list[tuple[str, str]]]:
        """Draw values of all ranges together; with a Latin hypercube each range's are spread.

        M. D. McKay, R. J. Beckman, W. J. Conover, "A Comparison of Three Methods for Selecting
        Values of Input Variables in the Analysis of Output from a Computer Code", Technometrics
        21, 1979: every one of as many slices as there are draws holds exactly one.
        """
        random = Random(self.seed)
        columns = []
        for _ in self.sampled:
            if self.sampling == "latin":
                slices = list(range(self.samples))
                random.shuffle(slices)
                shares = [(each + random.random()) / self.samples for each in slices]
            else:
                shares = [random.random() for _ in range(self.samples)]
            columns.append(shares)
        for row in zip(*columns, strict=True):
            yield [
                (each.key, each.at(share)) for each, share in zip(self.sampled, row, strict=True)
            ]


def _setting(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, str], tuple[str, ...]]:
    values = dict(pairs)
    return values, tuple(f"{key}={value}" for key, value in values.items())


def parse_varied(option: str, text: str) -> Values | Range:
    """Return what ``KEY=a,b,c`` or ``KEY=LOW..HIGH`` (``:log`` may follow) says.

    Commas within brackets and quotation marks belong to a value. ScenarioError with ``option`` as
    the place of anything else.
    """
    key, equals, listed = text.partition("=")
    key = key.strip()
    if not equals or not key or not listed.strip():
        raise ScenarioError(f"{option} {text}", "", "names no values", "KEY=a,b,c or KEY=LOW..HIGH")
    values = [value.strip() for value in _split(listed)]
    if len(values) == 1 and (match := _RANGE.fullmatch(values[0])):
        return _range(f"{option} {text}", key, match)
    return values_of(f"{option} {text}", key, values)


def values_of(place: str, key: str, values: Sequence[str]) -> Values:
    """Return the values of a key, checked: there are some, and none is empty or there twice."""
    for value in values:
        if not value:
            raise ScenarioError(place, "", "has an empty value", "a value between all commas")
        if values.count(value) > 1:
            raise ScenarioError(place, "", f"has {value} twice", "each value once")
    return Values(key, tuple(values))


_NUMBER: Final = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d.\s]*)"
_RANGE: Final = re.compile(rf"{_NUMBER}\s*\.\.\s*{_NUMBER}")


def _range(place: str, key: str, match: re.Match[str]) -> Range:
    low_text, low_unit, high_text, high_unit = match.groups()
    unit, _, scale = high_unit.partition(":")
    if scale not in ("", "log"):
        raise ScenarioError(place, "", f'has "{scale}" after its range', "log, or nothing")
    if low_unit not in ("", unit):
        raise ScenarioError(place, "", "has two units", "both ends in one, as in 10..200ms")
    low, high = float(low_text), float(high_text)
    if not low < high:
        raise ScenarioError(
            place, "", f"has nothing from {low:g} to {high:g}", "the lower end first"
        )
    if scale and low <= 0:
        raise ScenarioError(place, "", f"has no logarithm at {low:g}", "a lower end above 0")
    whole = not unit and low.is_integer() and high.is_integer() and "." not in low_text + high_text
    return Range(key, low, high, unit, bool(scale), whole)


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets and quotation marks."""
    parts = [""]
    depth, quote = 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += 0 if quote else (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


@dataclass(frozen=True, slots=True)
class Column:
    """A parameter's values as one type: numbers in ``unit``, or texts where it has no other."""

    key: str
    texts: tuple[str, ...]
    """All values, as ``--set`` takes them."""
    unit: str
    numbers: Mapping[str, float] | None
    """By the text of the value; None where these are texts."""
    title: str = ""
    """What to call it in a figure; "" for the key's last part."""

    @property
    def name(self) -> str:
        """What figures call it, without its unit."""
        return self.title or self.key.rpartition(".")[2]

    def value(self, text: str) -> float | str:
        """Return a value as the column has it."""
        return text if self.numbers is None else self.numbers[text]


_UNITS: Final[tuple[tuple[str, Callable[[str], float]], ...]] = (
    ("", float),
    ("bit/s", parse_rate),
    ("s", lambda text: parse_duration(text) / NANOSECONDS),
    ("bytes", parse_size),
    ("", parse_fraction),
)
"""What a parameter may be, in this order; "10MB" is no rate, and "10ms" no size."""


def column_of(key: str, texts: Iterable[str]) -> Column:
    """Return the column of a parameter that takes these values."""
    wanted = tuple(dict.fromkeys(texts))
    for unit, parse in _UNITS:
        try:
            numbers = {text: float(parse(text)) for text in wanted}
        except (UnitError, ValueError):
            continue
        if all(map(math.isfinite, numbers.values())):
            return Column(key, wanted, unit, numbers)
    return Column(key, wanted, "", None)

"""Rates, sizes, durations and fractions, from text and back.

Inside the package a rate is bits per second, a size bytes, a duration nanoseconds, all integers.
In text, k, M and G are powers of 1000 and Ki, Mi and Gi powers of 1024.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

NANOSECONDS = 1_000_000_000

_PREFIX = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_DURATION_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
}
_LONGEST_NUMBER = 50
"""Characters; more digits than any quantity has."""
_NUMBER_UNIT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([A-Za-zµ/%]*)\s*")


class UnitError(ValueError):
    """A quantity that cannot be read; the text says what was expected."""

    exit_status = 2  # bad input


def _split(text: object, what: str, example: str) -> tuple[Decimal, str]:
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        shown = str(text).lower() if isinstance(text, bool) else text
        shown = "a table" if isinstance(text, dict) else shown
        raise UnitError(f"{shown} is not {what}; expected text such as {example}")
    match = _NUMBER_UNIT.fullmatch(str(text))
    if match is None or len(match[1]) > _LONGEST_NUMBER:
        raise UnitError(f"{text!r} is not {what}; expected text such as {example}")
    try:
        return Decimal(match[1]), match[2]
    except InvalidOperation as error:
        raise UnitError(f"{text!r} is not {what}; expected text such as {example}") from error


def _whole(value: Decimal, text: object, what: str, example: str) -> int:
    if value < 0:
        raise UnitError(f"{text!r} is negative; expected {what} such as {example}")
    return int(value.to_integral_value())


def parse_rate(text: int | float | str) -> int:
    """Return bits per second from ``"1Gb/s"``, ``"300M"``, ``"10 Mbit/s"`` or a number of bit/s.

    Raises UnitError for anything else; bytes per second ("MB/s") are refused rather than guessed.
    """
    example = '"1Gb/s" or "300Mb/s"'
    number, unit = _split(text, "a rate", example)
    for suffix in ("bit/s", "bits/s", "b/s", "bit", "bits", "bps", "b", ""):
        if suffix and not unit.endswith(suffix):
            continue
        prefix = unit[: len(unit) - len(suffix)] if suffix else unit
        scale = _PREFIX.get(prefix) or _BINARY.get(prefix)
        if scale is not None:
            return _whole(number * scale, text, "a rate", example)
    problem = "is in bytes; rates are in bits" if "B" in unit else f'has an unknown unit "{unit}"'
    raise UnitError(f"{text!r} {problem}; expected a rate such as {example}")


def parse_size(text: int | float | str) -> int:
    """Return bytes from ``"64KiB"``, ``"5MB"``, ``"2 MiB"`` or a number of bytes.

    Raises UnitError for anything else; sizes in bits ("Mb") are refused rather than guessed.
    """
    example = '"64KiB" or "5MB"'
    number, unit = _split(text, "a size", example)
    prefix = unit[:-1] if unit.endswith("B") else unit
    scale = _PREFIX.get(prefix) or _BINARY.get(prefix)
    if scale is None:
        problem = (
            "is in bits; sizes are in bytes" if "b" in unit else f'has an unknown unit "{unit}"'
        )
        raise UnitError(f"{text!r} {problem}; expected a size such as {example}")
    return _whole(number * scale, text, "a size", example)


def parse_duration(text: int | float | str) -> int:
    """Return nanoseconds from ``"33.3ms"``, ``"900s"``, ``"15min"`` or a number of seconds."""
    example = '"33.3ms" or "900s"'
    number, unit = _split(text, "a duration", example)
    scale = _DURATION_NS.get(unit or "s")
    if scale is None:
        raise UnitError(
            f'{text!r} has an unknown unit "{unit}"; expected a duration such as {example}'
        )
    return _whole(number * scale, text, "a duration", example)


def parse_fraction(text: int | float | str) -> float:
    """Return a probability from ``"1%"`` or ``0.01``; UnitError outside 0 to 1."""
    example = '"1%" or 0.01'
    number, unit = _split(text, "a fraction", example)
    if unit not in ("", "%"):
        raise UnitError(
            f'{text!r} has an unknown unit "{unit}"; expected a fraction such as {example}'
        )
    value = float(number / 100 if unit == "%" else number)
    if not 0.0 <= value <= 1.0:
        raise UnitError(f"{text!r} is not between 0 and 1 (0 % and 100 %)")
    return value


def _scaled(value: float, digits: int, units: tuple[tuple[int, str], ...]) -> str:
    """Return a value in the largest of ``units`` that it reaches when rounded to ``digits``.

    In the smallest unit, and where ``digits`` do not reach the decimal point, it is a whole number.
    """
    least = 1 - 0.5 / 10**digits
    scale, unit = next((pair for pair in units if abs(value) >= pair[0] * least), units[-1])
    amount = value / scale
    if scale == 1 or abs(amount) >= 10**digits - 0.5:
        return f"{amount:.0f} {unit}"
    return f"{amount:.{digits}g} {unit}"


def format_rate(bps: float, digits: int = 4) -> str:
    """Return a rate as people write it, with that many significant digits: ``"942.3 Mb/s"``."""
    return _scaled(bps, digits, ((10**9, "Gb/s"), (10**6, "Mb/s"), (10**3, "kb/s"), (1, "b/s")))


def format_size(size_bytes: float, digits: int = 4) -> str:
    """Return a size as people write it, with that many significant digits: ``"10.49 MB"``."""
    return _scaled(size_bytes, digits, ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "B")))


def format_duration(duration_ns: float, digits: int = 4) -> str:
    """Return a duration as people write it: ``"33.3 ms"``.

    ``digits`` are the significant ones below a second; from there on there are always four.
    """
    if abs(duration_ns) >= NANOSECONDS * (1 - 0.5 / 10**digits):
        return _scaled(duration_ns, 4, ((NANOSECONDS, "s"),))
    return _scaled(duration_ns, digits, ((10**6, "ms"), (10**3, "us"), (1, "ns")))

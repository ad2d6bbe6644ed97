"""Quantities in text."""

import pytest

from mptcplab.units import (
    UnitError,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_fraction,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "bps"),
    [
        ("1Gb/s", 10**9),
        ("300M", 300 * 10**6),
        ("10 Mbit/s", 10**7),
        ("1.5Gbit", 1_500_000_000),
        ("56k", 56_000),
        (1000, 1000),
        ("9600b/s", 9600),
    ],
)
def test_rates(text: str | int, bps: int) -> None:
    assert parse_rate(text) == bps


@pytest.mark.parametrize("text", ["1GB/s", "fast", "", "-1Mb/s", "10Mb/min", True, None])
def test_what_is_not_a_rate(text: str) -> None:
    with pytest.raises(UnitError):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65536), ("5MB", 5_000_000), ("2 MiB", 2**21), (1500, 1500), ("9k", 9000)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


def test_bits_are_no_size() -> None:
    with pytest.raises(UnitError, match="bits"):
        parse_size("5Mb")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("33.3ms", 33_300_000),
        ("15min", 900 * 10**9),
        (2, 2 * 10**9),
        ("100us", 100_000),
        ("1h", 3600 * 10**9),
    ],
)
def test_durations(text: str | int, ns: int) -> None:
    assert parse_duration(text) == ns


def test_fractions() -> None:
    assert parse_fraction("1%") == 0.01
    assert parse_fraction(0.25) == 0.25
    with pytest.raises(UnitError):
        parse_fraction("101%")


def test_what_people_read() -> None:
    assert format_rate(942_300_000) == "942.3 Mb/s"
    assert format_size(10_490_000) == "10.49 MB"
    assert format_duration(33_300_000) == "33.3 ms"


def test_significant_digits() -> None:
    assert format_rate(942_340_000, 3) == "942 Mb/s"
    assert format_size(10_490_000, 3) == "10.5 MB"
    assert format_duration(33_333_333, 3) == "33.3 ms"
    assert format_duration(8_546_400_000, 3) == "8.546 s"  # seconds have four all the same


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (999.4, "999 B"),
        (999_600, "1 MB"),
        (1234, "1.23 kB"),
        (1_234_000_000_000_000, "1234000 GB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_a_size_is_never_written_with_an_exponent(size: float, text: str) -> None:
    assert format_size(size, 3) == text


def test_nothing_is_smaller_than_the_smallest_unit() -> None:
    assert format_rate(5.4) == "5 b/s"
    assert format_duration(0) == "0 ns"
    assert format_duration(999_999_999) == "1 s"
    assert format_duration(3_600_000 * 10**9) == "3600000 s"

"""Lists in a grid, lists side by side, draws: which points a sweep has, and what is refused."""

from __future__ import annotations

from itertools import product

import pytest

from mptcplab.scenario import ScenarioError
from mptcplab.sweeps.design import (
    Design,
    Labelled,
    Range,
    Values,
    column_of,
    parse_varied,
)


def test_a_grid_has_every_combination_and_the_last_changes_fastest() -> None:
    design = Design((Values("a", ("1", "2")), Values("b.c", ("x", "y", "z"))))
    points = design.points()
    assert [tuple(point.values.values()) for point in points] == list(product("12", "xyz"))
    assert points[1].overrides == ("a=1", "b.c=y")
    assert points[1].label == "a=1, c=y"


def test_lists_side_by_side_are_one_dimension() -> None:
    design = Design((Values("a", ("1", "2")),), (Values("b", ("x", "y")), Values("c", ("p", "q"))))
    assert [tuple(point.values.values()) for point in design.points()] == [
        ("1", "x", "p"),
        ("1", "y", "q"),
        ("2", "x", "p"),
        ("2", "y", "q"),
    ]


def test_points_of_a_file_are_crossed_with_the_rest_and_lie_on_their_axis() -> None:
    labelled = (Labelled("small", ("b=1", "c=2"), 10.0), Labelled("large", ("b=9",), 40.0))
    design = Design((Values("a", ("1", "2")),), labelled=labelled)
    points = design.points()
    assert points[0].overrides == ("b=1", "c=2", "a=1")
    assert points[3].label == "large, a=2"
    (first, _) = design.columns(points)
    assert first.numbers == {"small": 10.0, "large": 40.0}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("flows.*.buffer=1MB, 2MB,4MB", ("1MB", "2MB", "4MB")),
        ('flows.x.links=["a", "b"],["a"]', ('["a", "b"]', '["a"]')),
        ('hosts.x.note="a,b","c"', ('"a,b"', '"c"')),
        ("tunables.scheduler=mine:Most", ("mine:Most",)),
    ],
)
def test_commas_within_a_value_are_its_own(text: str, values: tuple[str, ...]) -> None:
    parsed = parse_varied("--over", text)
    assert parsed == Values(text.partition("=")[0], values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=5..200ms", Range("a", 5, 200, "ms")),
        ("a=5ms..200ms", Range("a", 5, 200, "ms")),
        ("a=0.5..2%", Range("a", 0.5, 2, "%")),
        ("a=1..1000Mb/s:log", Range("a", 1, 1000, "Mb/s", True)),
        ("a=2..8", Range("a", 2, 8, whole=True)),
        ("a=1.0..8", Range("a", 1, 8)),
    ],
)
def test_a_range_has_two_ends_and_one_unit(text: str, expected: Range) -> None:
    assert parse_varied("--over", text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flows", "names no values"),
        ("a=", "names no values"),
        ("a=1,,2", "empty value"),
        ("a=1,2,1", "has 1 twice"),
        ("a=5s..200ms", "two units"),
        ("a=200..5ms", "nothing from 200 to 5"),
        ("a=0..5ms:log", "no logarithm at 0"),
        ("a=1..5ms:even", '"even" after its range'),
    ],
)
def test_what_is_no_list_and_no_range_is_refused(text: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        parse_varied("--over", text)


def test_a_latin_hypercube_has_one_draw_in_every_slice_of_every_range() -> None:
    ranges = (Range("a", 0, 50, "ms"), Range("b", 1, 10_000, "kb/s", True))
    points = Design(sampled=ranges, samples=25, seed=3).points()
    assert len(points) == 25
    a = sorted(float(point.values["a"].removesuffix("ms")) for point in points)
    assert [int(value // 2) for value in a] == list(range(25))
    b = sorted(float(point.values["b"].removesuffix("kb/s")) for point in points)
    assert sum(value < 100 for value in b) == pytest.approx(12.5, abs=0.6)  # half of the decades
    assert [p.values for p in Design(sampled=ranges, samples=25, seed=3).points()] == [
        p.values for p in points
    ]


def test_whole_numbers_are_drawn_evenly_both_ends_included() -> None:
    points = Design(sampled=(Range("a", 2, 5, whole=True),), samples=40).points()
    drawn = [point.values["a"] for point in points]
    assert {value: drawn.count(value) for value in "2345"} == dict.fromkeys("2345", 10)


def test_too_many_points_are_refused_before_they_are_made() -> None:
    many = tuple(Values(f"k{n}", tuple(map(str, range(100)))) for n in range(4))
    with pytest.raises(ScenarioError, match="100000000 points"):
        Design(many).points()


@pytest.mark.parametrize(
    ("texts", "unit", "numbers"),
    [
        (["1", "2.5"], "", [1, 2.5]),
        (["10Mb/s", "1Gb/s"], "bit/s", [1e7, 1e9]),
        (["5ms", "1s"], "s", [0.005, 1]),
        (["64KiB", "1MB"], "bytes", [65536, 1e6]),
        (["1%", "0.5%"], "", [0.01, 0.005]),
        (["1", "default"], "", None),
        (["nan", "1"], "", None),
    ],
)
def test_a_parameter_has_numbers_where_all_its_values_are(
    texts: list[str], unit: str, numbers: list[float] | None
) -> None:
    column = column_of("key", texts)
    assert column.unit == unit
    assert (column.numbers and list(column.numbers.values())) == numbers

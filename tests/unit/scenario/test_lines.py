"""Errors say on which line of the file the key stands."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from mptcplab.scenario import CombinedScenarioError, ScenarioError, load
from mptcplab.scenario.schema.lines import lines_of
from mptcplab.scenario.schema.source_files import built_in, built_in_scenarios

TEXT = """\
# a comment with [brackets] and = signs
title = "a # b = [c]"
text = \'\'\'
not = "a key"
[nor a table]
it\'s\'\'\'
many = [
  1,  # one
  { at = "1s", down = "wifi" },
  [
    "x", 'y"]',
  ],
]
links.wifi.rate = "1Mb/s"

[links."a.b"]
between = ["x", "y"]
forward = { rate = "1Mb/s", loss = "1%" }

[[sweep.points]]
label = "one"
[sweep.points.more]
x = 1
[[ sweep . points ]]
label = "two"
"""


def test_every_key_has_its_line() -> None:
    lines = lines_of(TEXT)
    assert {".".join(path): line for path, line in lines.items()} == {
        "title": 2,
        "text": 3,
        "many": 7,
        "many.0": 8,
        "many.1": 9,
        "many.1.at": 9,
        "many.1.down": 9,
        "many.2": 10,
        "many.2.0": 11,
        "many.2.1": 11,
        "links": 14,
        "links.wifi": 14,
        "links.wifi.rate": 14,
        "links.a.b": 16,
        "links.a.b.between": 17,
        "links.a.b.between.0": 17,
        "links.a.b.between.1": 17,
        "links.a.b.forward": 18,
        "links.a.b.forward.rate": 18,
        "links.a.b.forward.loss": 18,
        "sweep": 20,
        "sweep.points": 20,
        "sweep.points.0": 20,
        "sweep.points.0.label": 21,
        "sweep.points.0.more": 22,
        "sweep.points.0.more.x": 23,
        "sweep.points.1": 24,
        "sweep.points.1.label": 25,
    }


def paths_of(tree: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    pairs: Any = ()
    if isinstance(tree, dict):
        pairs = tree.items()
    elif isinstance(tree, list):
        pairs = enumerate(tree)
    found = {path} if path else set()
    for name, value in pairs:
        found |= paths_of(value, (*path, str(name)))
    return found


@pytest.mark.parametrize(
    "path", [*built_in_scenarios().values(), *built_in("topologies").values()], ids=str
)
def test_of_files_as_people_write_them_nothing_is_missed(path: Path) -> None:
    text = path.read_text()
    assert set(lines_of(text)) == paths_of(tomllib.loads(text))


def test_all_mistakes_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'duration = "3x"\nhosts = ["a", "b"]\n\n[links.l]\nbetween = ["a", "b"]\n'
        'rate = "20Mb/s"\nrttt = "1ms"\n\n[flows.f]\nfrom = "a"\n'
    )
    with pytest.raises(CombinedScenarioError) as raised:
        load(path)
    where = [(error.file.rpartition(", line ")[2], error.key) for error in raised.value.errors]
    assert where == [("1", "duration"), ("7", "links.l.rttt"), ("9", "flows.f.to")]


def test_what_is_set_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('duration = "3s"\nhosts = ["a", "b"]\n')
    with pytest.raises(ScenarioError) as raised:
        load(path, overrides=("duration=3x",))
    assert raised.value.errors[0].file == "--set duration=3x"


def test_names_that_lead_nowhere_are_told_with_what_else_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'duration = "3x"\nhosts = ["phone", "server"]\n'
        'timeline = [{ at = "1s", down = "wfi" }, { at = "1s", stop = "main" }]\n'
        '[links.wifi]\nbetween = ["phone", "serverx"]\n'
        '[flows.main]\nfrom = "fone"\nto = "server"\n'
    )
    with pytest.raises(CombinedScenarioError) as raised:
        load(path)
    said = [(error.file.rpartition(", line ")[2], error.problem) for error in raised.value.errors]
    assert said[1:] == [
        ("5", 'there is no host, router or switch "serverx"'),
        ("7", 'there is no host "fone"'),
        ("3", 'there is no link "wfi"'),
    ]


def test_what_a_broken_table_lacks_is_not_missed_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'duration = "3s"\nhosts = ["phone", "ser ver"]\n'
        '[links.wifi]\nbetween = ["phone", "ser ver"]\n'
        '[flows.main]\nfrom = "phone"\nto = "ser ver"\n'
    )
    with pytest.raises(ScenarioError) as raised:
        load(path)
    assert len(raised.value.errors) == 1

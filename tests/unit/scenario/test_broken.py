"""Every kind of broken scenario gives one clear error: file, key, what was found and expected."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mptcplab.scenario import CombinedScenarioError, ScenarioError, load
from mptcplab.scenario.schema.json_schema import json_schema
from mptcplab.scenario.schema.source_files import read_toml

SOUND = """\
duration = "30s"

[hosts.alice]
[hosts.bob]

[links.fast]
between = ["alice", "bob"]
rate = "100Mb/s"
rtt = "20ms"

[links.slow]
between = ["alice", "bob"]
rate = "20Mb/s"
delay = "25ms"

[flows.main]
from = "alice"
to = "bob"

[[timeline]]
at = "10s"
down = "slow"
"""


NAMED = (
    SOUND.replace("[hosts.alice]", "[hosts.alice.interfaces]\na0 = {}\na1 = {}")
    .replace("[hosts.bob]", "[hosts.bob.interfaces]\nb0 = {}\nb1 = {}")
    .replace('["alice", "bob"]', '["alice:a0", "bob:b0"]', 1)
    .replace('["alice", "bob"]', '["alice:a1", "bob:b1"]', 1)
)
CASES: list[dict[str, Any]] = read_toml(Path(__file__).with_name("broken.toml"))["case"]


def text_of(case: dict[str, Any]) -> str:
    text = NAMED if case.get("base") == "named" else SOUND
    for old, new in case.get("edits", []):
        assert old in text
        text = text.replace(old, new, 1)
    return f"{text}{case.get('append', '')}"


def error_of(path: Path, **arguments: Any) -> ScenarioError:
    with pytest.raises(ScenarioError) as caught:
        load(path, **arguments)
    return caught.value


@pytest.mark.parametrize("text", [SOUND, NAMED])
def test_the_sound_scenarios_are_sound(text: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.toml"
    path.write_text(text)
    assert load(path).duration_ns == 30 * 10**9


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_one_clear_error(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text_of(case))
    error = error_of(path)
    assert len(error.errors) == 1, str(error)
    assert "\n" not in str(error)
    file, _, line = error.file.partition(", line ")
    assert file == str(path)
    if line:  # none of what is missing in the whole file
        shown = path.read_text().split("\n")[int(line) - 1]
        assert any(part in shown for part in error.key.split("."))
    assert error.key == case["key"]
    assert case["found"] in error.problem
    assert case["expected"] in error.expected
    assert case.get("hint", "") in f"{error.expected} {error.hint}"
    for part in (str(path), case["key"], case["found"], case["expected"]):
        assert part in str(error)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.get("structural")], ids=lambda case: case["name"]
)
def test_an_editor_sees_what_is_structurally_broken(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text_of(case))
    validator = jsonschema.Draft202012Validator(json_schema())
    assert list(validator.iter_errors(read_toml(path)))


def test_forty_kinds_are_covered() -> None:
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names) >= 40


def test_independent_errors_come_together(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(SOUND.replace("100Mb/s", "fast").replace('"alice"\nto', '"alice"\nt0'))
    with pytest.raises(CombinedScenarioError) as caught:
        load(path)
    assert [error.key for error in caught.value.errors] == [
        "links.fast.rate",
        "flows.main.t0",
        "flows.main.to",
    ]
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("duration = 30s\n", 1, "quote text and quantities"),
        ("duration = '30s'\n\n[links\n", 3, "toml.io"),
        ("[hosts.a]\n[hosts.a]\n", 2, "once"),
    ],
)
def test_toml_syntax(text: str, line: int, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    error = error_of(path)
    assert error.file == f"{path}, line {line}"
    assert "TOML syntax" in error.problem
    assert hint in error.hint


def test_a_name_with_a_newline_stays_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(SOUND.replace("[hosts.alice]", '[hosts."a\\nb"]\n[hosts.alice]'))
    assert str(error_of(path)).count("\n") == 0
    assert r"a\nb" in str(error_of(path))


@pytest.mark.parametrize(
    ("hosts", "found"),
    [('["a", "a"]', '"a" is listed twice'), ('["a", 5]', "5 is not a name"), ("5", "5 is not")],
)
def test_hosts_that_are_no_list_of_names(hosts: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(f'duration = "1s"\nhosts = {hosts}\n')
    error = error_of(path)
    assert len(error.errors) == 1
    assert found in error.problem


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "sound.toml"
    path.write_text(f"\ufeff{SOUND}", encoding="utf-8")
    assert load(path).duration_ns == 30 * 10**9


def test_no_text(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(b"title = '\xff'\n")
    assert "is not UTF-8 text" in error_of(path).problem


def test_no_such_file() -> None:
    error = error_of(Path("aa"))
    assert "no such file, and no experiment of that name" in error.problem
    assert "one of A, B, C" in error.expected
    assert error.hint == 'did you mean "A"?'


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in error_of(tmp_path).problem


def test_a_key_that_fell_into_the_table_above_it(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(SOUND + '\n[flows.other]\nfrom = "alice"\nto = "bob"\ninterval = "1s"\n')
    assert "above the first [table]" in error_of(path).hint


@pytest.mark.parametrize(
    ("override", "key", "problem", "hint"),
    [
        ("flows.*.bufer=1MB", "flows.*.bufer", 'unknown key "bufer"', 'did you mean "buffer"?'),
        ("flow.main.buffer=1MB", "flow", 'unknown key "flow"', 'did you mean "flows"?'),
        ("links.fats.rate=1M", "links.fats", 'there is no link "fats"', 'did you mean "fast"?'),
        ("timeline.3.at=1s", "timeline.3", "timeline has 1 entries", ""),
        ("switches.*.ports=x", "switches.*.ports", "matches nothing", ""),
        ("duration.x=1", "duration.x", "duration is a value", ""),
        ("duration", "", "is not KEY=VALUE", ""),
        ("topology=report", "topology", "cannot be changed", ""),
        ("=1", "", "is not KEY=VALUE", ""),
        ("links.*.rate=1MB/s", "links.fast.rate", "is in bytes", ""),
    ],
)
def test_overrides_that_fail(
    override: str, key: str, problem: str, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "sound.toml"
    path.write_text(SOUND)
    first = error_of(path, overrides=(override,)).errors[0]
    assert first.file == f"--set {override}"
    assert first.key == (key.replace("*", "main") if "bufer" in key else key)
    assert problem in first.problem
    assert hint in first.hint


def test_more_flows_than_ports_are_refused_at_once(tmp_path: Path) -> None:
    flows = "".join(f'[flows.f{n}]\nfrom = "a"\nto = "b"\nconnections = 128\n' for n in range(469))
    path = tmp_path / "broken.toml"
    path.write_text(
        f'duration = "1s"\nhosts = ["a", "b"]\nlinks.l = {{ between = ["a", "b"] }}\n{flows}'
    )
    error = error_of(path)
    assert error.key == "flows"
    assert error.problem == "60032 connections in all"
    assert "at most 60000" in error.expected


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"duration_ns": 10**9, "time_scale": 0.5}, "--duration and --time-scale"),
        ({"duration_ns": 0}, "--duration"),
        ({"time_scale": -1.0}, "--time-scale"),
        ({"time_scale": float("nan")}, "--time-scale"),
        ({"interval_ns": 10**12}, "--interval"),
    ],
)
def test_arguments_that_fail(arguments: dict[str, Any], where: str) -> None:
    assert error_of(Path("A"), **arguments).file == where


def test_a_flow_that_is_neither_on_nor_off_is_refused(tmp_path: Path) -> None:
    keys = 'application = "paced"\nrate = "1Mb/s"\non = "0s"\noff = "0s"'
    path = tmp_path / "broken.toml"
    path.write_text(SOUND.replace('to = "bob"', f'to = "bob"\n{keys}'))
    assert [error.key for error in error_of(path).errors] == ["flows.main.on", "flows.main.off"]

"""Whatever became of a run's folder, it is shown or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.search import cases

from mptcplab.cli.main import main
from mptcplab.results.tables import TABLES

SCENARIO = """
title = "Two links"
duration = "1s"
interval = "100ms"
hosts = ["alice", "bob"]
timeline = [{ at = "0.5s", change = "fast", rate = "2Mb/s", label = "slower" }]
expect = [{ goodput = "3Mb/s", stage = 0 }]
report.measured = [{ value = "3Mb/s", source = "table 1" }]
report.findings = [{ text = "it went", source = "figure 1" }]
[links]
fast = { between = ["alice", "bob"], rate = "3Mb/s", rtt = "10ms" }
slow = { between = ["alice", "bob"], rate = "1Mb/s", rtt = "20ms" }
[flows]
main = { from = "alice", to = "bob" }
short = { from = "bob", to = "alice", size = "20kB" }
"""
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**66),
    st.floats(),
    st.sampled_from(["", "main", "fast", "total", "forward", "\x1b[2J\x00\n", "x" * 300, "$_{"]),
    st.builds(list),
    st.builds(dict),
    st.lists(st.integers(), max_size=2),
)
ODD: dict[Any, list[Any]] = {
    pa.string(): [None, "", "\x1b", "else"],
    pa.float64(): [None, float("nan"), float("inf"), -1e308, 0.0],
    pa.bool_(): [None, True, False],
    pa.int64(): [None, -1, 0, 2**62, 2**63 - 1, -(2**63)],
}
"""Values by the type of a column."""
USUAL = settings(
    max_examples=cases(25),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Place = tuple[str | int, ...]


@pytest.fixture(scope="module", name="sound")
def sound_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "two.toml").write_text(SCENARIO)
    assert main(["run", str(folder / "two.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def shown_or_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Return the status of ``show``."""
    capsys.readouterr()
    status = main(["show", str(folder)])
    said = capsys.readouterr()
    if status == 2:
        assert len(said.err.splitlines()) == 1, said.err
        assert not said.out
    else:
        assert status in (0, 1)
    return status


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Yield the place of every value below one."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items if isinstance(value, dict | list) else ():
        yield (*above, key)
        if isinstance(item, dict | list):
            yield from places(item, (*above, key))


def put(tree: Any, place: Place, value: Any, *, remove: bool) -> None:
    """Set or remove the value at a place; nothing where the place is gone by now."""
    for key in place[:-1]:
        tree = tree[key] if isinstance(tree, dict) and key in tree else _item(tree, key)
    last = place[-1]
    if isinstance(tree, dict) and isinstance(last, str):
        tree.pop(last, None)
        if not remove:
            tree[last] = value
    elif isinstance(tree, list) and isinstance(last, int) and last < len(tree):
        tree[last : last + 1] = [] if remove else [value]


def _item(tree: Any, key: str | int) -> Any:
    inside = isinstance(tree, list) and isinstance(key, int) and key < len(tree)
    return tree[key] if inside else None


@pytest.mark.slow
@USUAL
@given(data=st.data())
def test_any_metadata_is_shown_or_refused(
    data: st.DataObject, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = deepcopy(json.loads((sound / "run.json").read_text()))
    every = list(places(metadata))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(every))
        put(metadata, place, data.draw(VALUES), remove=data.draw(st.booleans()))
    folder = tmp_path / "run"
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    (folder / "run.json").write_text(json.dumps(metadata))
    shown_or_refused(folder, capsys)


@pytest.mark.slow
@USUAL
@given(
    name=st.sampled_from(list(TABLES)[:5]),
    change=st.sampled_from(["cut", "flip", "empty", "foreign", "no rows", "absent", "folder"]),
    where=st.floats(0, 1),
)
@example(name="links", change="cut", where=0.5)
def test_any_table_is_shown_or_refused(
    name: str,
    change: str,
    where: float,
    sound: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    path = folder / f"{name}.parquet"
    content = path.read_bytes()
    place = int(where * (len(content) - 1))
    if change == "cut":
        path.write_bytes(content[:place])
    elif change == "flip":
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    elif change == "no rows":
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    else:
        path.unlink()
        if change == "folder":
            path.mkdir()
    status = shown_or_refused(folder, capsys)
    absent = name == "limits" and change == "absent"  # as in runs of earlier versions
    assert status == 2 or absent or change in ("flip", "no rows")


@pytest.mark.slow
@USUAL
@given(data=st.data())
def test_any_columns_are_shown_or_refused(
    data: st.DataObject, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    name = data.draw(st.sampled_from(list(TABLES)[:5]))
    table = pq.read_table(sound / f"{name}.parquet")
    column = data.draw(st.sampled_from(list(TABLES[name])))
    place = table.column_names.index(column)
    kind = table.schema.field(column).type
    if data.draw(st.booleans()):
        table = table.remove_column(place)
    else:
        values = table.column(column).to_pylist()
        at = data.draw(st.integers(0, len(values) - 1))
        values[at] = data.draw(st.sampled_from(ODD.get(kind, [None, -1, 0, 2**31 - 1])))
        other = data.draw(st.booleans()) and kind == pa.int64() and values[at] is None
        array = pa.array(map(str, values)) if other else pa.array(values, kind)
        table = table.set_column(place, column, array)
    pq.write_table(table, folder / f"{name}.parquet")
    shown_or_refused(folder, capsys)

"""A run's folder is there whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from mptcplab.results.run import Run, RunError
from mptcplab.results.writer import RunWriter, remove_abandoned

ROW = {
    "time_ns": 1_000_000_000,
    "interval_ns": 1_000_000_000,
    "flow": "main",
    "connection": 0,
    "protocol": "mptcp",
    "bytes": 125,
    "goodput_bps": 1000.0,
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "a")
    writer.append("flows", [ROW])
    writer.metadata({"testbed": "linux"})
    writer.finish(valid=False, reasons=["stopped"])
    run = Run(tmp_path / "a")
    assert run.rows("flows") == [ROW]
    assert run.rows("links") == []
    assert run.metadata["valid"] is False
    assert run.metadata["invalid_reasons"] == ["stopped"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_empty_folder_is_taken_and_one_in_use_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    assert RunWriter(folder).finish(valid=True) == folder
    with pytest.raises(FileExistsError, match="exists already"):
        RunWriter(folder)


def test_columns_a_row_lacks_are_null(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "a")
    writer.append("events", [{"time_ns": 5, "event": "x"}])
    row = Run(writer.finish(valid=True)).rows("events")[0]
    assert row["event"] == "x"
    assert row["subflow"] is None


def test_a_column_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "a")
    with pytest.raises(KeyError, match="no column colour"):
        writer.append("flows", [{"colour": 1}])


def test_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        writer = RunWriter(tmp_path / name)
        writer.append("flows", [ROW])
        writer.finish(valid=True)
    first, second = ((tmp_path / name / "flows.parquet").read_bytes() for name in "ab")
    assert first == second


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    RunWriter(tmp_path / "a").finish(valid=True)
    with pytest.raises(FileExistsError):
        RunWriter(tmp_path / "a")


def test_what_a_dead_writer_left_is_removed_and_a_living_one_spared(tmp_path: Path) -> None:
    code = (
        "import os, pathlib\n"
        "from mptcplab.results.writer import RunWriter\n"
        f"RunWriter(pathlib.Path({str(tmp_path / 'dead')!r}))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / ".dead.partial").exists()
    alive = RunWriter(tmp_path / "alive")
    remove_abandoned(tmp_path)
    assert not (tmp_path / ".dead.partial").exists()
    assert alive.workspace.exists()


@pytest.mark.parametrize(
    ("measured_ns", "reasons", "is_cut"),
    [
        (5, ["stopped by SIGINT at 0.0 s"], True),
        (5, [], False),  # all its flows were done
        (10, ["one link lacked CPU time"], False),
    ],
)
def test_a_run_that_ended_early_by_itself_is_whole(
    tmp_path: Path, measured_ns: int, reasons: list[str], is_cut: bool
) -> None:
    writer = RunWriter(tmp_path / "a")
    writer.metadata({"measured_ns": measured_ns, "scenario": {"duration_ns": 10, "tunables": {}}})
    assert Run(writer.finish(valid=not reasons, reasons=reasons)).is_cut is is_cut


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        Run(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(RunError, match="update mptcplab"):
        Run(tmp_path)


def test_a_run_of_an_earlier_version_reads_with_what_it_has(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    writer = RunWriter(tmp_path / "a")
    row = {"time_ns": 5, "host": "alice", "flow": "main", "connection": 0, "unread_bytes": 7}
    writer.append("connections", [row])
    folder = writer.finish(valid=True)
    (folder / "limits.parquet").unlink()
    table = pq.read_table(folder / "connections.parquet")
    earlier = table.drop_columns(["unread_bytes", "cpu_ns"])
    pq.write_table(earlier, folder / "connections.parquet")
    run = Run(folder)
    assert run.rows("limits") == []
    (read,) = run.rows("connections")
    assert (read["time_ns"], read["unread_bytes"], read["cpu_ns"]) == (5, None, None)
    pq.write_table(table.drop_columns(["host"]), folder / "connections.parquet")
    with pytest.raises(RunError, match="no column host"):
        run.rows("connections")

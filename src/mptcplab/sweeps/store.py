"""A sweep's folder: what was asked for, a line for each run as it is done, and tables at the end.

``sweep.json`` says what was asked for; ``journal.jsonl`` has a line for each run, written through
before the next begins; ``runs.parquet`` and ``summary.parquet`` are made of it. The same command
goes on where the journal ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mptcplab.plain_text import plain_values
from mptcplab.results.run import RunError
from mptcplab.results.writer import FolderInUseError, make_folder
from mptcplab.sweeps.design import Column, Point
from mptcplab.sweeps.tasks import SERIES, Row, Task, unit_of

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA: Final = 1
SETTINGS: Final = "sweep.json"
JOURNAL: Final = "journal.jsonl"
_SETTINGS: Final = {"resolved": "scenario", "first_seed": "seed", "points": "list of points"}
"""What to call a setting in a sentence, where its key is not its name."""
RUNS: Final = "runs"
"""The folder of single runs, while they are made and where they are kept."""
_LOCK: Final = ".lock"


class Store:
    """The folder of one sweep, which one process writes at a time."""

    def __init__(self, folder: Path) -> None:
        """Take a folder, which need not be there yet."""
        self.folder = folder

    @contextmanager
    def opened(self, settings: Mapping[str, Any]) -> Iterator[Store]:
        """Make the folder or take up the one that an earlier command of these settings left.

        RunError where it was made with other settings, FolderInUseError where it holds something
        else or another process is writing it.
        """
        asked = json.loads(json.dumps({"schema": SCHEMA, **settings}))
        found = self.settings() if (self.folder / SETTINGS).exists() else None
        if found is None and self.folder.is_dir() and any(self.folder.iterdir()):
            raise FolderInUseError(f"{self.folder} holds something else; choose another --out")
        if found is not None and found != asked:
            other = [key for key in {**asked, **found} if asked.get(key) != found.get(key)]
            said = ", ".join(_SETTINGS.get(key, key) for key in other)
            raise RunError(
                f"{self.folder}: holds a sweep with another {said}; choose another --out"
            )
        make_folder(self.folder)
        with (self.folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FolderInUseError(
                    f"{self.folder} is being written by another command; wait for it to end"
                ) from error
            if found is None:
                self.write(SETTINGS, json.dumps(asked, indent=2) + "\n")
            yield self

    def settings(self) -> dict[str, Any]:
        """Return what was asked for; RunError where the folder is no sweep's."""
        path = self.folder / SETTINGS
        try:
            settings = json.loads(path.read_bytes())
        except OSError as error:
            raise RunError(f"{self.folder}: not a sweep's folder ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: not JSON: {error}") from error
        plain_values(settings)
        if not isinstance(settings, dict) or not isinstance(settings.get("schema"), int):
            raise RunError(f"{path}: damaged: it states no schema")
        if settings["schema"] > SCHEMA:
            raise RunError(f"{path}: of a later version; this one reads up to schema {SCHEMA}")
        return settings

    def rows(self) -> list[Row]:
        """Return the runs that are done; the last line may be one that a kill cut short."""
        path = self.folder / JOURNAL
        if not path.exists():
            return []
        rows = []
        *lines, rest = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                values = json.loads(line)
                plain_values(values)
                rows.append(Row(**values))
            except (ValueError, TypeError, RecursionError) as error:
                raise RunError(f"{path}, line {number}: damaged: {error}") from error
        if rest:
            with path.open("r+b") as journal:
                journal.truncate(path.stat().st_size - len(rest))
        return rows

    def append(self, row: Row) -> None:
        """Write a run down, through to the disk."""
        with (self.folder / JOURNAL).open("a") as journal:
            journal.write(json.dumps(asdict(row)) + "\n")
            journal.flush()
            os.fsync(journal.fileno())

    def run_folder(self, point: int, seed: int) -> Path:
        """Return the folder of a single run."""
        return self.folder / RUNS / f"{point}" / f"{seed}"

    def write(self, name: str, text: str) -> None:
        """Write a file whole, or leave what was there."""
        partial = self.folder / f".{name}.partial"
        partial.write_text(text)
        partial.replace(self.folder / name)

    def remove(self, name: str) -> None:
        """Remove a folder within this one, and all that it holds."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table whole, or leave what was there."""
        import pyarrow.parquet as pq

        partial = self.folder / f".{name}.partial"
        pq.write_table(table, partial)
        partial.replace(self.folder / f"{name}.parquet")

    def merge_series(self, tasks: Iterable[Task]) -> None:
        """Merge the runs' tables over time, with point and seed as their first columns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        present = [(task, self.run_folder(task.point, task.seed)) for task in tasks]
        for name in SERIES:
            writer = None
            partial = self.folder / f".series-{name}.partial"
            for task, folder in present:
                path = folder / f"{name}.parquet"
                if not path.exists():
                    continue
                table = pq.read_table(path, use_threads=False, pre_buffer=False)
                for place, (column, value) in enumerate(
                    (("point", task.point), ("seed", task.seed))
                ):
                    filled = pa.array([value] * len(table), pa.int64())
                    table = table.add_column(place, column, filled)
                if not len(table):  # as of requests, where no flow asks for anything
                    continue
                writer = writer or pq.ParquetWriter(partial, table.schema)
                writer.write_table(table)
            if writer is not None:
                writer.close()
                partial.replace(self.folder / f"series-{name}.parquet")


def runs_table(points: Sequence[Point], columns: Sequence[Column], rows: Sequence[Row]) -> pa.Table:
    """Return a row for each run and metric; a run without any has one row with its reason."""
    import pyarrow as pa

    flat: list[tuple[Row, str | None, float | None]] = []
    for row in sorted(rows, key=lambda row: (row.point, row.seed)):
        flat += [(row, metric, value) for metric, value in row.metrics.items()]
        if not row.metrics:
            flat.append((row, None, None))
    names = [("", "") if metric is None else unit_of(metric) for _, metric, _ in flat]
    arrays: dict[str, Any] = {"point": pa.array([row.point for row, *_ in flat], pa.int64())}
    for column in columns:
        arrays[column.key] = parameter_array(column, (points[row.point] for row, *_ in flat))
    arrays |= {
        "seed": pa.array([row.seed for row, *_ in flat], pa.int64()),
        "valid": pa.array([row.valid for row, *_ in flat], pa.bool_()),
        "reason": pa.array(["; ".join(row.reasons) or None for row, *_ in flat], pa.string()),
        "metric": pa.array([name or None for name, _ in names], pa.string()),
        "unit": pa.array([unit for _, unit in names], pa.string()),
        "value": pa.array([value for *_, value in flat], pa.float64()),
        "wall_s": pa.array([row.wall_s for row, *_ in flat], pa.float64()),
    }
    for name, key in (("build", "version"), ("build", "commit"), ("versions", "kernel")):
        values = [(row.provenance.get(name) or {}).get(key) for row, *_ in flat]
        arrays[key] = pa.array(values, pa.string())
    return pa.table(arrays)


def parameter_array(column: Column, points: Iterable[Point]) -> Any:
    """Return a parameter's values of some points as its own type."""
    import pyarrow as pa

    kind = pa.string() if column.numbers is None else pa.float64()
    return pa.array([column.value(point.values[column.key]) for point in points], kind)

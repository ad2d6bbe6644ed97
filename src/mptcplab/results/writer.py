"""Writing a run's folder: rows gathered while it runs, one rename when it is whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mptcplab.provenance import this_build
from mptcplab.results.debug_log import FILE as DEBUG_LOG
from mptcplab.results.debug_log import debug_lines, wanted_hosts
from mptcplab.results.tables import SCHEMA_VERSION, TABLES, arrow_schema

_PARTIAL_SUFFIX: Final = ".partial"
_OWNER_FILE: Final = "owner"


class FolderError(ValueError):
    """A run's folder cannot be made; the text says which and why."""

    exit_status = 2  # bad input


class RunWriter:
    """Gathers a run's tables and metadata and puts the folder in place when it is finished.

    Everything is written under a hidden name beside the folder and renamed in one step, so a reader
    finds a whole run or none.  What a killed writer left is removed by the next one that writes
    into the same parent folder; what a living one is writing is left alone.
    """

    def __init__(self, folder: Path) -> None:
        """Make ready to write ``folder``.

        Raises FileExistsError where it is not :func:`is_free`, FolderError where it cannot be made.
        """
        if not is_free(folder):
            raise FileExistsError(f"{folder} exists already; choose another folder for the run")
        self.folder = folder
        self._partial = folder.parent / f".{folder.name}{_PARTIAL_SUFFIX}"
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(folder.parent)
            self._partial.mkdir()
        except OSError as error:
            raise FolderError(
                f"{folder}: cannot be made: {error.strerror}; expected a folder that may be written"
            ) from error
        (self._partial / _OWNER_FILE).touch()
        self._owner = _lock(self._partial / _OWNER_FILE)
        self._columns: dict[str, dict[str, list[Any]]] = {
            table: {column: [] for column in columns} for table, columns in TABLES.items()
        }
        self._metadata: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "build": asdict(this_build()),
        }

    @property
    def workspace(self) -> Path:
        """The folder to put captures and logs into while the run lasts; they move with it."""
        return self._partial

    def append(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; a column that a row lacks is null, one that the table lacks is a KeyError."""
        columns = self._columns[table]
        for row in rows:
            for name in row:
                if name not in columns:
                    raise KeyError(f"table {table} has no column {name}")
            for name, values in columns.items():
                values.append(row.get(name))

    def metadata(self, values: Mapping[str, Any]) -> None:
        """Add to what ``run.json`` will hold; values must be what JSON can carry."""
        self._metadata.update(values)

    def finish(self, *, valid: bool, reasons: Iterable[str] = ()) -> Path:
        """Write everything, put the folder in place and return it."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for table, columns in self._columns.items():
            data = pa.table(columns, schema=arrow_schema(table))
            pq.write_table(data, self._partial / f"{table}.parquet", compression="zstd")
        self._write_debug_log()
        self._metadata["valid"] = valid
        self._metadata["invalid_reasons"] = list(reasons)
        text = json.dumps(self._metadata, indent=2, sort_keys=True) + "\n"
        (self._partial / "run.json").write_text(text)
        (self._partial / _OWNER_FILE).unlink()
        self._partial.rename(self.folder)
        self._release()
        return self.folder

    def _write_debug_log(self) -> None:
        scenario = self._metadata.get("scenario")
        if scenario is None or not wanted_hosts(scenario):
            return
        tables = {}
        for table in ("events", "connections", "subflows"):
            columns = self._columns[table]
            values = zip(*columns.values(), strict=True)
            tables[table] = [dict(zip(columns, row, strict=True)) for row in values]
        text = "\n".join(debug_lines(scenario, tables))
        (self._partial / DEBUG_LOG).write_text(f"{text}\n")

    def abandon(self) -> None:
        """Remove what was written; for a run that never began to measure."""
        shutil.rmtree(self._partial, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None


def make_folder(folder: Path) -> None:
    """Make a folder for runs, unless there is one; FolderError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(
            f"{folder}: cannot be made: {error.strerror}; expected a folder that may be written"
        ) from error


def is_free(folder: Path) -> bool:
    """Say whether a run may be written there: nothing has that name, or an empty folder has."""
    if folder.is_dir():
        return not any(folder.iterdir())
    return not folder.exists()


def remove_abandoned(parent: Path) -> None:
    """Remove the unfinished runs in a folder whose writers are dead."""
    for partial in parent.glob(f".*{_PARTIAL_SUFFIX}"):
        lock = _lock(partial / _OWNER_FILE)
        if lock is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)


def _lock(owner: Path) -> int | None:
    """Take the lock that a living writer holds; None while it lives, or where there is no file.

    A lock outlasts no process, whatever killed it, and means the same in every PID namespace.
    """
    try:
        descriptor = os.open(owner, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None  # being made, or being renamed, at this very moment
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor

"""Writing a run's folder: rows gathered while it runs, one rename when it is whole.

What a run has measured is not lost to a folder: one that could not be replaced at the end is
refused at the beginning, what is written is on the disk before it gets its name, and where it
cannot get that after all, it is left in a place that the error names.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mptcplab.provenance import this_build, this_command, this_machine
from mptcplab.results.debug_log import FILE as DEBUG_LOG
from mptcplab.results.debug_log import debug_lines, wanted_hosts
from mptcplab.results.tables import SCHEMA_VERSION, TABLES, arrow_schema

_PARTIAL_SUFFIX: Final = ".partial"
_EXPECTED: Final = "expected a new folder, or an empty one, where one may write"
_WHOLE_IN: Final = "it is whole in {}: read it there, or move it"
_WHY_NOT_REPLACED: Final = {
    errno.EBUSY: "it is a mount point, or in use",
    errno.EXDEV: "it is a mount point, or part of an image",
}


_IS_PASSING: ContextVar[bool] = ContextVar("is_passing", default=False)


@contextlib.contextmanager
def passing_runs() -> Iterator[None]:
    """Write runs for a reader who removes them at once: they need not outlast a power cut.

    To have a dozen files written through to the disk takes longer than a short simulation.
    """
    token = _IS_PASSING.set(True)
    try:
        yield
    finally:
        _IS_PASSING.reset(token)


class FolderError(ValueError):
    """A run's folder cannot be made; the text says which and why."""

    exit_status = 2  # bad input


class FolderInUseError(FileExistsError):
    """A run's folder holds something already."""

    exit_status = 2  # bad input


class NotDeliveredError(RuntimeError):
    """A finished run could not be put where it was to be; the text says where it is instead."""

    exit_status = 3  # this machine cannot


class RunWriter:
    """Gathers a run's tables and metadata and puts the folder in place when it is finished.

    Everything is written under a hidden name beside the folder and renamed in one step, so a reader
    finds a whole run or none.  What a killed writer left is removed by the next one that writes
    into the same parent folder; what a living one is writing is left alone.
    """

    def __init__(self, folder: Path) -> None:
        """Make ready to write ``folder``.

        Raises FolderInUseError where it is not :func:`is_free`, FolderError where it cannot be
        made, or could not be replaced at the end: a mount point, a symbolic link, the current
        folder.
        """
        check_replaceable(folder)
        if not is_free(folder):
            raise FolderInUseError(f"{folder} exists already; choose another folder for the run")
        self.folder = folder
        self._partial = _partial_of(folder)
        make_folder(folder.parent)
        remove_abandoned(folder.parent)
        with _as_folder_error(folder):
            self._owner: int | None = _make_locked(self._partial)
        self._columns: dict[str, dict[str, list[Any]]] = {
            table: {column: [] for column in columns} for table, columns in TABLES.items()
        }
        self._metadata: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "build": asdict(this_build()),
            "machine": asdict(this_machine()),
            "command": this_command(),
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
        """Write everything, put the folder in place and return it.

        NotDeliveredError where that cannot be; the run is then whole in the folder that it names.
        """
        self._metadata["valid"] = valid
        self._metadata["invalid_reasons"] = list(reasons)
        is_written = False
        try:
            self._write_to(self._partial)
            is_written = True
            self._partial.rename(self.folder)
            if not _IS_PASSING.get():
                _flush(self.folder.parent)
        except OSError as error:
            raise self._rescue(error, is_written) from error
        finally:
            self._release()
        return self.folder

    def _write_to(self, place: Path) -> None:
        """Write tables and metadata, so that they are on the disk."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for table, columns in self._columns.items():
            data = pa.table(columns, schema=arrow_schema(table))
            with (place / f"{table}.parquet").open("wb") as file:  # whatever its folder's name is
                pq.write_table(data, file, compression="zstd")
        self._write_debug_log(place)
        text = json.dumps(self._metadata, indent=2, sort_keys=True) + "\n"
        (place / "run.json").write_text(text)
        if _IS_PASSING.get():
            return
        for parent, _, names in os.walk(place):
            for name in names:
                _flush(Path(parent, name))
            _flush(Path(parent))

    def _rescue(self, error: OSError, is_written: bool) -> NotDeliveredError:
        """Put the run elsewhere and return what says where.

        Beside its folder where nothing but the name was wrong, else among temporary files.
        """
        why = f"{self.folder}: the finished run could not be put there: {_why(error)}"
        if is_written and not self._partial.exists():
            return NotDeliveredError(f"{why}; its files are there, but perhaps not yet on the disk")
        if is_written:
            with contextlib.suppress(OSError):
                beside = tempfile.mkdtemp(prefix=f"{self.folder.name}-", dir=self.folder.parent)
                self._partial.rename(beside)
                return NotDeliveredError(
                    f"{why}; it is whole in {beside}: read it there, or move it"
                )
        try:
            place = Path(tempfile.mkdtemp(prefix=f"mptcplab-{self.folder.name}-"))
            with contextlib.suppress(OSError, shutil.Error):  # captures, as far as they can be read
                shutil.copytree(self._partial, place, dirs_exist_ok=True)
            self._write_to(place)
        except OSError as second:
            return NotDeliveredError(f"{why}; nor among temporary files: {_why(second)}")
        shutil.rmtree(self._partial, ignore_errors=True)
        return NotDeliveredError(f"{why}; {_WHOLE_IN.format(place)}")

    def _write_debug_log(self, place: Path) -> None:
        scenario = self._metadata.get("scenario")
        if scenario is None or not wanted_hosts(scenario):
            return
        tables = {}
        for table in ("events", "connections", "subflows"):
            columns = self._columns[table]
            values = zip(*columns.values(), strict=True)
            tables[table] = [dict(zip(columns, row, strict=True)) for row in values]
        text = "\n".join(debug_lines(scenario, tables))
        (place / DEBUG_LOG).write_text(f"{text}\n")

    def abandon(self) -> None:
        """Remove what was written; for a run that never began to measure."""
        if self._owner is not None:  # else it is finished, and what it has written stays
            shutil.rmtree(self._partial, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None


def make_folder(folder: Path) -> None:
    """Make a folder for runs, unless there is one; FolderError where it cannot be made."""
    with _as_folder_error(folder):
        folder.mkdir(parents=True, exist_ok=True)


def is_free(folder: Path) -> bool:
    """Say whether a run may be written there: nothing has that name, or an empty folder has.

    FolderError where that cannot be said, as of a name that is too long.
    """
    with _as_folder_error(folder):
        if folder.is_dir():
            return not any(folder.iterdir())
        return not folder.exists()


def check_replaceable(folder: Path) -> None:
    """Raise FolderError where a finished run could not be renamed to ``folder``.

    An empty folder is replaced by another empty one: nothing but the kernel knows every reason why
    that may fail.
    """
    with _as_folder_error(folder):
        if folder.is_symlink():
            raise FolderError(
                f"{folder}: is a symbolic link, which a run would replace; name the folder itself"
            )
        if not folder.is_dir() or any(folder.iterdir()):
            return
        if folder.samefile(Path.cwd()):
            raise FolderError(
                f"{folder}: is the current folder, which a run would replace; {_EXPECTED}"
            )
        remove_abandoned(folder.parent)
        trial = _partial_of(folder)
        owner = _make_locked(trial)
        try:
            shutil.copymode(folder, trial)
            trial.rename(folder)
        except OSError as error:
            raise FolderError(
                f"{folder}: cannot be replaced by a run: {_why(error)}; name a new folder, which "
                "may be inside it"
            ) from error
        finally:
            shutil.rmtree(trial, ignore_errors=True)
            os.close(owner)


def remove_abandoned(parent: Path) -> None:
    """Remove the unfinished runs in a folder whose writers are dead."""
    for partial in parent.glob(f".*{_PARTIAL_SUFFIX}"):
        lock = _lock(partial)
        if lock is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)


def _partial_of(folder: Path) -> Path:
    return folder.parent / f".{folder.name}{_PARTIAL_SUFFIX}"


def _make_locked(folder: Path) -> int:
    """Make a folder and return the lock on it, which says that its writer lives."""
    while True:
        try:
            folder.mkdir()
        except FileExistsError as error:
            raise FolderError(f"{folder}: another run is being written to that folder") from error
        lock = _lock(folder)
        # somebody may have found it before it was locked, and be removing it
        if lock is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), folder.stat()):
                    return lock
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Take the lock that a living writer holds; None while it lives, or where there is no folder.

    A lock outlasts no process, whatever killed it, and means the same in every PID namespace.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None  # being renamed, at this very moment
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _flush(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without it (fsync(2))
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _as_folder_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderError(f"{folder}: cannot be made: {_why(error)}; {_EXPECTED}") from error


def _why(error: OSError) -> str:
    return _WHY_NOT_REPLACED.get(error.errno or 0) or error.strerror or str(error)

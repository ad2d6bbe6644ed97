"""What a run has measured is delivered, or left where an error says; never lost."""

from __future__ import annotations

import errno
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mptcplab.results.run import Run
from mptcplab.results.writer import (
    FolderError,
    NotDeliveredError,
    RunWriter,
    passing_runs,
    remove_abandoned,
)

EVENT = {"time_ns": 5, "event": "x"}


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def measured(folder: Path) -> RunWriter:
    writer = RunWriter(folder)
    writer.append("events", [EVENT])
    (writer.workspace / "a.pcap").write_bytes(b"captured")
    return writer


def check_whole(place: Path) -> None:
    assert Run(place).rows("events")[0]["event"] == "x"
    assert (place / "a.pcap").read_bytes() == b"captured"


class Failing:
    """Counts the calls of some functions, and lets one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
        self.calls = 0
        self._number, self._code = number, code
        for module, name in (
            (os, "open"), (os, "fsync"), (os, "rename"), (os, "mkdir"), (os, "walk"),
            (Path, "open"), (Path, "rename"), (Path, "write_text"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self._number:
                raise OSError(self._code, os.strerror(self._code))
            return function(*args, **options)

        return call


def calls_of_finishing(folder: Path) -> int:
    with pytest.MonkeyPatch.context() as patched:
        writer = measured(folder)
        count = Failing(patched, -1, 0)
        writer.finish(valid=True)
    return count.calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EBUSY, errno.EROFS])
def test_whichever_call_of_finishing_fails_the_run_is_somewhere(
    tmp_path: Path, temporary: Path, code: int
) -> None:
    for number in range(1, calls_of_finishing(tmp_path / "counted") + 1):
        folder = tmp_path / f"run-{code}-{number}"
        writer = measured(folder)
        with pytest.MonkeyPatch.context() as patched:
            Failing(patched, number, code)
            try:
                place = writer.finish(valid=True)
            except NotDeliveredError as error:
                text = str(pickle.loads(pickle.dumps(error)))
                places = [*tmp_path.glob(f"{folder.name}*"), *temporary.glob(f"*{folder.name}-*")]
                [place] = [each for each in places if str(each) in text]
        writer.abandon()  # as a testbed does after any error
        check_whole(place)
        assert list(tmp_path.glob(".*.partial")) == []


def test_a_run_that_fits_nowhere_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = measured(tmp_path / "run")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    Failing(monkeypatch, 1, errno.ENOSPC)
    with pytest.raises(NotDeliveredError, match="No space left on device; nor among temporary"):
        writer.finish(valid=True)


def test_a_folder_that_was_filled_meanwhile_keeps_what_it_holds(tmp_path: Path) -> None:
    writer = measured(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    with pytest.raises(NotDeliveredError, match="it is whole in") as raised:
        writer.finish(valid=True)
    [place] = tmp_path.glob("run-*")
    assert str(place) in str(raised.value)
    check_whole(place)
    assert (tmp_path / "run" / "mine").exists()


def test_everything_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    writer = measured(tmp_path / "run")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    folder = writer.finish(valid=True)
    before = done[: done.index("rename")]
    assert {path.name for path in folder.iterdir()} | {".run.partial"} == set(before)
    assert done[done.index("rename") + 1 :] == [tmp_path.name]


def test_a_run_that_is_read_and_removed_at_once_waits_for_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    monkeypatch.setattr(os, "fsync", done.append)
    writer = measured(tmp_path / "run")
    with passing_runs():
        check_whole(writer.finish(valid=True))
    assert done == []


def link(folder: Path) -> Path:
    (folder / "target").mkdir()
    (folder / "link").symlink_to("target")
    return folder / "link"


def dangling(folder: Path) -> Path:
    (folder / "link").symlink_to("nowhere")
    return folder / "link"


def current(folder: Path) -> Path:
    os.chdir(folder)
    return Path()


def current_by_name(folder: Path) -> Path:
    (folder / "here").mkdir()
    os.chdir(folder / "here")
    return folder / "here"


@pytest.mark.parametrize("make", [link, dangling, current, current_by_name])
def test_a_folder_that_cannot_be_replaced_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FolderError):
        RunWriter(make(tmp_path))
    os.chdir("/")
    assert list(tmp_path.glob(".*")) == []


def test_a_mount_point_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounted").mkdir()
    rename = Path.rename

    def busy(path: Path, target: Path) -> Path:  # as rename(2) of a mount point
        if target == tmp_path / "mounted":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(FolderError, match="mount point"):
        RunWriter(tmp_path / "mounted")
    assert [path.name for path in tmp_path.iterdir()] == ["mounted"]


def test_an_empty_folder_keeps_its_mode_while_a_run_lasts(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    RunWriter(tmp_path / "run")
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", [b"\xff", b"\x1b[31m", b"a b\n", "\u540d".encode()])
def test_a_folder_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    check_whole(measured(tmp_path / os.fsdecode(name)).finish(valid=True))


@pytest.mark.parametrize("length", [250, 300, 5000])
def test_a_name_that_is_too_long_is_refused_first(tmp_path: Path, length: int) -> None:
    with pytest.raises(FolderError, match="File name too long"):
        RunWriter(tmp_path / ("x" * length))
    assert list(tmp_path.iterdir()) == []


def test_two_runs_are_not_written_to_one_folder(tmp_path: Path) -> None:
    first = RunWriter(tmp_path / "run")
    with pytest.raises(FolderError, match="another run is being written"):
        RunWriter(tmp_path / "run")
    assert first.workspace.exists()


def test_a_partial_folder_without_any_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".killed.partial").mkdir()  # its writer died before it wrote anything
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []

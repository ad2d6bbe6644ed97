"""Where memory, descriptors, file sizes or the disk do not suffice: one line, and nothing left."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mptcplab.cli import main as command

CAPTURE = Path(__file__).parents[2] / "captures" / "handover.pcap.gz"
SCENARIO = """
duration = "500ms"
interval = "100ms"
hosts = ["a", "b"]
captures = ["a:eth0"]
[links.l]
between = ["a", "b"]
rate = "5Mb/s"
rtt = "10ms"
[flows.f]
from = "a"
to = "b"
"""
ROOM_BYTES = 20_000
"""Less than the capture takes."""
MEMORY_BYTES = 2 << 20
"""Beyond what the loaded program takes; a batch of packets is larger."""
LITTLE_MEMORY = f"""
import resource, sys
import mptcplab.cli.inspect_output, mptcplab.trace.output.explain, mptcplab.trace.trace
from mptcplab.cli.main import main
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + {MEMORY_BYTES}
resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.exit(main(["inspect", sys.argv[1]]))
"""
IN_OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")
IN_LITTLE_ROOM = """
mount -t tmpfs -o size=$1 none "$2" && cd "$2" || exit 77
shift 2
"$@"
status=$?
ls -A >&2
exit $status
"""


def mptcplab(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mptcplab", *arguments]


def limited(kind: int, most: int, folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run a command in a folder, under a limit; return its status and the lines of its errors."""
    done = subprocess.run(
        mptcplab(*arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(kind, (most, most)),
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "s.toml").write_text(SCENARIO)
    return tmp_path


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "not enough memory"),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            "libx.so: failed to map",
        ),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "x.pcap"), "files of x.pcap: raise"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), "too many open files"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "a file would be larger"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "the disk quota is used up"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space left"),
    ],
)
def test_what_does_not_suffice_is_said_in_a_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Parser:
        def parse_args(self, _: list[str]) -> Any:
            raise error

    monkeypatch.setattr(command, "build_parser", lambda _: Parser())
    assert command.main(["run"]) == command.MACHINE_CANNOT
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_other_errors_of_imports_are_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Parser:
        def parse_args(self, _: list[str]) -> Any:
            raise ImportError("No module named mptcplab")

    monkeypatch.setattr(command, "build_parser", lambda _: Parser())
    with pytest.raises(ImportError):
        command.main(["run"])


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [["inspect", LONG], ["inspect", str(CAPTURE), "-w", LONG], ["check", LONG], ["show", LONG],
     ["reproduce", "s.toml", "--out", LONG]],
)  # fmt: skip
def test_a_name_that_is_too_long_is_bad_input(
    folder: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert command.main(arguments) == command.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert LONG in line
    assert [path.name for path in folder.iterdir()] == ["s.toml"]


def test_tables_go_into_a_folder_of_any_name(folder: Path) -> None:
    place = folder / os.fsdecode(b"\xff")
    assert command.main(["inspect", str(CAPTURE), "--tables", str(place)]) == 0
    assert (place / "packets.parquet").exists()


def test_a_run_whose_capture_may_not_grow(folder: Path) -> None:
    status, errors = limited(
        resource.RLIMIT_FSIZE, ROOM_BYTES, folder, "run", "s.toml", "--out", "run"
    )
    assert status == 3
    assert "a file would be larger than the limit" in errors[-1]
    assert not [line for line in errors if "Traceback" in line]
    assert [path.name for path in folder.iterdir()] == ["s.toml"]


@pytest.mark.parametrize("name", ["few.pcap", "few.pcapng"])
def test_a_capture_that_cannot_be_written_whole_is_not_left(folder: Path, name: str) -> None:
    status, errors = limited(
        resource.RLIMIT_FSIZE, ROOM_BYTES, folder, "inspect", str(CAPTURE), "-w", name
    )
    assert (status, len(errors)) == (2, 1)
    assert f"-w {name}: File too large; nothing is left" in errors[0]
    assert [path.name for path in folder.iterdir()] == ["s.toml"]


def test_tables_that_cannot_be_written_whole_are_not_left(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").touch()
    for place in ("new", "mine"):
        status, errors = limited(
            resource.RLIMIT_FSIZE, ROOM_BYTES, folder, "inspect", str(CAPTURE), "--tables", place
        )
        assert (status, len(errors)) == (2, 1)
        assert "File too large" in errors[0]
    assert sorted(path.name for path in folder.rglob("*")) == ["mine", "notes.txt", "s.toml"]


def test_few_descriptors_are_enough(folder: Path) -> None:
    assert limited(resource.RLIMIT_NOFILE, 16, folder, "inspect", str(CAPTURE)) == (0, [])
    status, _ = limited(resource.RLIMIT_NOFILE, 16, folder, "run", "s.toml", "--out", "run")
    assert status == 0


def test_a_capture_that_does_not_fit_in_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(CAPTURE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines() == [
        "mptcplab: not enough memory, or a limit on it (ulimit -v, a control group) is too low"
    ]


def in_little_room(room: str, folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run a command on a small file system of its own; return its status, errors and files."""
    place = folder / "small"
    place.mkdir()
    done = subprocess.run(
        [*IN_OWN_MOUNTS, "sh", "-c", IN_LITTLE_ROOM, "sh", room, place, *mptcplab(*arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.kernel
def test_a_full_disk_while_a_run_lasts_leaves_nothing(folder: Path) -> None:
    status, errors = in_little_room("16k", folder, "run", str(folder / "s.toml"), "--out", "run")
    assert status == 3
    assert errors[-1].startswith("mptcplab: no space left on the device")  # and no file after it
    assert not [line for line in errors if "Traceback" in line]


@pytest.mark.kernel
def test_a_full_disk_at_the_end_loses_no_run(folder: Path) -> None:
    scenario = folder / "s.toml"
    scenario.write_text(SCENARIO.replace('captures = ["a:eth0"]', ""))
    status, errors = in_little_room("16k", folder, "run", str(scenario), "--out", "run")
    assert status == 3, errors
    assert "No space left on device; it is whole in" in errors[-1]
    (rescued,) = folder.glob("mptcplab-run-*")
    assert str(rescued) in errors[-1]
    shown = subprocess.run(mptcplab("show", str(rescued)), capture_output=True, check=False)
    assert shown.returncode == 0

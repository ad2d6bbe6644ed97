"""The machine's limits of socket buffers: raised with consent, put back whatever happens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.lab import host_limits
from mptcplab.linux.lab.host_limits import asked_bytes, limit_bytes, put_back_left_over
from mptcplab.scenario import load


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose files stand for the machine's sysctls."""
    monkeypatch.setattr(host_limits, "_path", lambda name: tmp_path / name)
    (tmp_path / "rmem_max").write_text("1000")
    (tmp_path / "wmem_max").write_text("2000")
    return tmp_path


def values(folder: Path) -> tuple[int, int]:
    texts = [(folder / name).read_text() for name in host_limits.NAMES]
    one, other = (int(text or -1) for text in texts)  # a file, unlike a sysctl, is empty meanwhile
    return one, other


@contextmanager
def needing(size_bytes: int, folder: Path) -> Iterator[int]:
    """Have a process that needs the limits raised; killed at the end, if not before."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        host_limits.raise_limits(size_bytes, folder)
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(0)
    os.close(tell)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def comes_to(expected: tuple[int, int], folder: Path) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if values(folder) == expected and len(list(folder.glob("*limits"))) == 0:
            return True
        time.sleep(0.01)
    return values(folder) == expected


def test_a_killed_process_leaves_the_limits_as_they_were(limits: Path) -> None:
    with needing(5000, limits):
        assert values(limits) == (5000, 5000)
        assert limit_bytes() == 5000
    assert comes_to((1000, 2000), limits)
    assert not (limits / "limits.state").exists()


def test_the_largest_that_is_still_needed_stays(limits: Path) -> None:
    with needing(5000, limits):
        with needing(9000, limits):
            assert values(limits) == (9000, 9000)
        assert comes_to((5000, 5000), limits)
    assert comes_to((1000, 2000), limits)


def test_what_somebody_else_sets_meanwhile_is_left_to_them(limits: Path) -> None:
    with needing(5000, limits):
        (limits / "rmem_max").write_text("7777")
    assert comes_to((7777, 2000), limits)


def test_what_a_killed_keeper_left_is_put_back_by_the_next_that_looks(limits: Path) -> None:
    with needing(5000, limits):
        pass
    assert comes_to((1000, 2000), limits)
    (limits / "limits.state").write_text(
        '{"before": {"rmem_max": 1000, "wmem_max": 2000}, '
        '"set": {"rmem_max": 5000, "wmem_max": 5000}}'
    )
    (limits / "dead.keeps-limits").write_text("5000")
    for name in host_limits.NAMES:
        (limits / name).write_text("5000")
    put_back_left_over(limits)
    assert values(limits) == (1000, 2000)
    assert not (limits / "limits.state").exists()


def test_who_may_not_raise_them_is_told(limits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_limits, "_path", lambda _: Path("/proc/version"))
    monkeypatch.setattr(host_limits, "_read", lambda _: 1000)
    with pytest.raises(MachineCannotError, match="takes root of the machine"):
        host_limits.raise_limits(5000, limits)


def test_programs_ask_for_half_of_what_a_flow_has() -> None:
    assert asked_bytes(load("A")) == 3 * 2**20
    assert asked_bytes(load("C")) == 115_343_360 // 2

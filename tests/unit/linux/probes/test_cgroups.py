"""Quotas of both versions of control groups, and how long they held a process back."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.linux.probes import cgroups

V2 = "30 20 0:26 / {root} rw - cgroup2 cgroup2 rw\n"
V1 = "31 20 0:27 / {root} rw - cgroup cgroup rw,cpu,cpuacct\n"
IN_A_CONTAINER = "30 20 0:26 /docker/1 {root} rw - cgroup2 cgroup2 rw\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What /proc says, by path; control groups are files below a folder of the test's own."""
    said: dict[str, str] = {}
    read = cgroups._read
    monkeypatch.setattr(cgroups, "_read", lambda path: said.get(str(path)) or read(path))
    return said


def write(folder: Path, **values: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in values.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("mounts", "groups", "folder"),
    [
        (V2, "0::/a/b\n", "a"),
        (V2, "0::/a/b\n", "a/b"),
        (IN_A_CONTAINER, "0::/docker/1/a\n", "a"),
        (IN_A_CONTAINER, "0::/docker/1\n", "."),
    ],
)
def test_version_2(
    tmp_path: Path, files: dict[str, str], mounts: str, groups: str, folder: str
) -> None:
    files["/proc/self/mountinfo"] = mounts.format(root=tmp_path)
    files["/proc/7/cgroup"] = groups
    assert (cgroups.quota_cpus(7), cgroups.throttled_ns(7)) == (None, 0)
    write(tmp_path, cpu__max="max 100000\n", cpu__stat="usage_usec 5\n")
    write(
        tmp_path / folder,
        cpu__max="150000 100000\n",
        cpu__stat="usage_usec 5\nnr_throttled 1\nthrottled_usec 250\n",
    )
    assert (cgroups.quota_cpus(7), cgroups.throttled_ns(7)) == (1.5, 250_000)


def test_version_1(tmp_path: Path, files: dict[str, str]) -> None:
    files["/proc/self/mountinfo"] = V1.format(root=tmp_path)
    files["/proc/7/cgroup"] = "3:memory:/elsewhere\n2:cpu,cpuacct:/a\n0::/\n"
    write(
        tmp_path / "a",
        cpu__cfs_quota_us="20000\n",
        cpu__cfs_period_us="100000\n",
        cpu__stat="nr_periods 5\nnr_throttled 2\nthrottled_time 77\n",
    )
    assert (cgroups.quota_cpus(7), cgroups.throttled_ns(7)) == (0.2, 77)
    write(tmp_path / "a", cpu__cfs_quota_us="-1\n")
    assert cgroups.quota_cpus(7) is None


def test_a_process_that_has_ended() -> None:
    assert (cgroups.quota_cpus(1 << 30), cgroups.throttled_ns(1 << 30)) == (None, 0)

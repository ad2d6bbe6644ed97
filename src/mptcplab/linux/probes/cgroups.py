"""What control groups let a process have of the CPUs: quotas, and how long they held it back.

Quotas are those of cgroup v2 (``cpu.max``) and of the cpu controller of v1 (``cpu.cfs_quota_us``):
a group and every group above it may have one (Documentation/scheduler/sched-bwc.rst).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final

_NS_PER_US: Final = 1000

Hierarchy = tuple[str, str, Path]
"""Kind ("" for v2, "cpu" for v1's controller), root and place of a mounted hierarchy."""


def throttled_ns(processes: Iterable[int]) -> dict[int, int]:
    """Return for how long quotas have held back the groups of each process so far, of all CPUs.

    0 where there are no quotas, or none that can be read.
    """
    mounts = list(_mounts())
    held = cache(_throttled_ns)  # processes share groups, and all share those above
    return {
        process: max((held(folder) for folder in _folders(process, mounts)), default=0)
        for process in processes
    }


def quota_cpus(process: int) -> float | None:
    """Return how many CPUs' time a process's groups may use at most, None where nothing says."""
    folders = _folders(process, list(_mounts()))
    quotas = [cpus for folder in folders if (cpus := _quota(folder)) is not None]
    return min(quotas, default=None)


def _throttled_ns(folder: Path) -> int:
    fields = dict(line.split() for line in _read(folder / "cpu.stat").splitlines())
    if "throttled_usec" in fields:
        return int(fields["throttled_usec"]) * _NS_PER_US
    return int(fields.get("throttled_time", 0))  # of v1, in ns


def _quota(folder: Path) -> float | None:
    quota, period = (_read(folder / "cpu.max").split() or ["", ""])[:2]
    if not quota:
        quota = _read(folder / "cpu.cfs_quota_us").strip()
        period = _read(folder / "cpu.cfs_period_us").strip()
    if not quota or not period or quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def _folders(process: int, mounts: Sequence[Hierarchy]) -> Iterator[Path]:
    """Yield the folders of the groups of a process that may have a CPU quota, inner ones first."""
    for line in _read(Path(f"/proc/{process}/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        for kind, root, place in mounts:
            if kind == ("cpu" if "cpu" in controllers.split(",") else controllers):
                group = PurePosixPath(path)
                # in a container the mount may show a part of the tree alone
                group = group.relative_to(root if group.is_relative_to(root) else "/")
                yield from (place / inner for inner in (group, *group.parents))


def _mounts() -> Iterator[Hierarchy]:
    """Yield the hierarchies that may have CPU quotas."""
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        root, place = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            yield "", root, Path(place)
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield "cpu", root, Path(place)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended, or there is no such controller
        return ""

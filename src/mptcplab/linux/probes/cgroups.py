"""What control groups let a process have of the CPUs: quotas, and how long they held it back.

Quotas are those of cgroup v2 (``cpu.max``) and of the cpu controller of v1 (``cpu.cfs_quota_us``):
a group and every group above it may have one (Documentation/scheduler/sched-bwc.rst).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_NS_PER_US: Final = 1000


def throttled_ns(process: int) -> int:
    """Return for how long quotas have held back a process's groups so far, of all CPUs together.

    0 where there are no quotas, or none that can be read.
    """
    return max((_throttled_ns(folder) for folder in _folders(process)), default=0)


def quota_cpus(process: int) -> float | None:
    """Return how many CPUs' time a process's groups may use at most, None where nothing says."""
    quotas = [cpus for folder in _folders(process) if (cpus := _quota(folder)) is not None]
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


def _folders(process: int) -> Iterator[Path]:
    """Yield the folders of the groups of a process that may have a CPU quota, inner ones first."""
    mounts = list(_mounts())
    for line in _read(Path(f"/proc/{process}/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        for kind, root, place in mounts:
            if kind == ("cpu" if "cpu" in controllers.split(",") else controllers):
                group = PurePosixPath(path)
                # in a container the mount may show a part of the tree alone
                group = group.relative_to(root if group.is_relative_to(root) else "/")
                yield from (place / inner for inner in (group, *group.parents))


def _mounts() -> Iterator[tuple[str, str, Path]]:
    """Yield the kind ("" for v2, "cpu" for v1's controller), root and place of each hierarchy."""
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

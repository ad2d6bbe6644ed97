"""How busy the machine and each of its CPUs was, and what processes and their threads used."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS: Final = (3, 4)  # proc(5): user nice system idle iowait irq softirq steal


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks since boot, of one CPU or of all."""

    busy: int
    idle: int


def parse_stat(text: str) -> dict[str, CpuTimes]:
    """Return the times of "cpu" (all), "cpu0", "cpu1"... from the text of /proc/stat."""
    times = {}
    for line in text.splitlines():
        if line.startswith("cpu"):
            name, *fields = line.split()
            ticks = [int(field) for field in fields[:8]]
            idle = sum(ticks[field] for field in _IDLE_FIELDS)
            times[name] = CpuTimes(sum(ticks) - idle, idle)
    return times


def busy_between(before: dict[str, CpuTimes], after: dict[str, CpuTimes]) -> dict[str, float]:
    """Return how busy the machine ("cpu") and each CPU ("cpu0"...) was between two readings of
    /proc/stat, 0 to 1; what a hypervisor took counts as busy.
    """

    def fraction(name: str) -> float:
        busy = after[name].busy - before[name].busy
        total = busy + after[name].idle - before[name].idle
        return busy / total if total > 0 else 0.0

    return {name: fraction(name) for name in after if name in before}


def by_number(busy: dict[str, float]) -> dict[int, float]:
    """Return the CPUs of :func:`busy_between` by their numbers, without the machine as a whole."""
    return {int(name[3:]): share for name, share in busy.items() if name != "cpu"}


def read_stat() -> dict[str, CpuTimes]:
    """Return :func:`parse_stat` of this machine, now."""
    return parse_stat(Path("/proc/stat").read_text())


def process_time_ns(pid: int) -> int | None:
    """Return the CPU time a process has used so far, None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_NS  # utime, stime


def scheduled_ns(pid: int) -> dict[int, tuple[int, int]]:
    """Return for how long each thread of a process, by its number, has run so far, and for how long
    it was ready to run and had no CPU.

    Empty where that is not known: there is no such process, or the kernel does not count it
    (CONFIG_SCHED_INFO).
    """
    scheduled: dict[int, tuple[int, int]] = {}
    for path in Path(f"/proc/{pid}/task").glob("[0-9]*/schedstat"):
        with suppress(OSError, ValueError):  # it has ended just now
            run_ns, wait_ns, _ = path.read_text().split()
            scheduled[int(path.parent.name)] = int(run_ns), int(wait_ns)
    return scheduled


def allowed_cpus(pid: int) -> set[int]:
    """Return the CPUs that a process may use, by affinity and cpuset (sched_getaffinity(2))."""
    try:
        return os.sched_getaffinity(pid)
    except OSError:  # it has ended
        return set()

"""How busy the machine was: of all CPUs together, of the busiest one, and of single processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS: Final = (3, 4)  # proc(5): user nice system idle iowait irq softirq steal
_STEAL_FIELD: Final = 7


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks since boot, of one CPU or of all."""

    busy: int
    idle: int
    stolen: int


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Fractions of an interval, 0 to 1: of all CPUs, of the busiest CPU, taken by a hypervisor."""

    machine: float
    busiest: float
    stolen: float


def parse_stat(text: str) -> dict[str, CpuTimes]:
    """Return the times of "cpu" (all), "cpu0", "cpu1"... from the text of /proc/stat."""
    times = {}
    for line in text.splitlines():
        if line.startswith("cpu"):
            name, *fields = line.split()
            ticks = [int(field) for field in fields[:8]]
            idle = sum(ticks[field] for field in _IDLE_FIELDS)
            times[name] = CpuTimes(sum(ticks) - idle, idle, ticks[_STEAL_FIELD])
    return times


def use_between(before: dict[str, CpuTimes], after: dict[str, CpuTimes]) -> CpuUse:
    """Return how busy the machine was between two readings of /proc/stat."""

    def fraction(name: str) -> float:
        busy = after[name].busy - before[name].busy
        total = busy + after[name].idle - before[name].idle
        return busy / total if total > 0 else 0.0

    both = [name for name in after if name in before]
    single = [name for name in both if name != "cpu"]
    total = sum(
        getattr(after["cpu"], part) - getattr(before["cpu"], part) for part in ("busy", "idle")
    )
    return CpuUse(
        machine=fraction("cpu"),
        busiest=max((fraction(name) for name in single), default=0.0),
        stolen=(after["cpu"].stolen - before["cpu"].stolen) / total if total > 0 else 0.0,
    )


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


def wanted_time_ns(pid: int) -> int | None:
    """Return how long a process has run or was ready to run so far, None where that is not known:
    there is no such process, or the kernel does not count it (CONFIG_SCHED_INFO).
    """
    try:
        run_ns, wait_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return int(run_ns) + int(wait_ns)

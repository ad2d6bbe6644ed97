"""What a sweep costs and keeps: wall time on all cores and on one, killed and resumed, overhead.

    python bench/many_runs.py grid [--repetitions N] [--duration D]    5 buffers, 3 schedulers
    python bench/many_runs.py short [--runs N]                         runs of next to nothing

``grid`` makes the sweep on all cores, on one core, and once more on all cores, killed (SIGKILL) at
40 % and started again: it says whether all three have the same values, and that no run was made
twice. ``short`` says what a run takes on each core apart from its simulation, which is of ten
kilobytes, and the memory of the largest worker after a tenth of the runs and after all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

GRID = """
title = "WiFi and LTE"
duration = "{duration}"
hosts = ["phone", "server"]

[links.wifi]
between = ["phone", "server"]
rate = "20Mb/s"
rtt = "20ms"
loss = "0.1%"

[links.lte]
between = ["phone", "server"]
rate = "10Mb/s"
rtt = "60ms"

[flows.upload]
from = "phone"
to = "server"
"""
OVER = (
    "--over=flows.*.buffer=32KB,64KB,128KB,256KB,1MB",
    "--over=tunables.scheduler=default,round-robin,redundant",
    "--metric=goodput of upload",
)
SHORT = """
duration = "100ms"
interval = "100ms"
hosts = ["phone", "server"]
links.wifi = { between = ["phone", "server"], rate = "20Mb/s", rtt = "4ms" }
links.lte = { between = ["phone", "server"], rate = "10Mb/s", rtt = "8ms" }
flows.upload = { from = "phone", to = "server", size = "10KB" }
"""
KILLED_AT = 0.4


def command(scenario: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "mptcplab", "sweep", str(scenario), "--out", str(out), *words]


def started(words: list[str]) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(words, start_new_session=True, **quiet)  # type: ignore[call-overload,no-any-return]


def timed(words: list[str]) -> float:
    began = time.monotonic()
    if started(words).wait():
        raise SystemExit(f"failed: {' '.join(words)}")
    return time.monotonic() - began


def lines_of(out: Path) -> list[dict[str, Any]]:
    path = out / "journal.jsonl"
    whole = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]


def values_of(out: Path) -> list[tuple[Any, ...]]:
    table = pq.read_table(out / "runs.parquet", columns=["point", "seed", "metric", "value"])
    return [tuple(row.values()) for row in table.to_pylist()]


def killed_and_resumed(words: list[str], out: Path, runs: int) -> None:
    began = time.monotonic()
    running = started(words)
    while len(lines_of(out)) < KILLED_AT * runs:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before_s = time.monotonic() - began
    done = lines_of(out)
    after_s = timed(words)
    whole = lines_of(out)
    made = {(row["point"], row["seed"]) for row in whole}
    print(
        f"killed after {before_s:.1f} s with {len(done)} of {runs} runs, resumed in {after_s:.1f} "
        f"s; {len(whole)} runs written down, {len(whole) - len(made)} twice, the first "
        f"{len(done)} {'as they were' if whole[: len(done)] == done else 'CHANGED'}"
    )


def grid(repetitions: int, duration: str, keep: Path | None) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        scenario = folder / "access.toml"
        scenario.write_text(GRID.format(duration=duration))
        words = [*OVER, f"--repetitions={repetitions}"]
        runs = 15 * repetitions
        cores = len(os.sched_getaffinity(0))
        all_s = timed(command(scenario, folder / "all", *words))
        one_s = timed(command(scenario, folder / "one", *words, "--jobs=1"))
        print(
            f"{runs} runs of {duration}: {all_s:.1f} s on {cores} cores, {one_s:.1f} s on one, "
            f"{one_s / all_s:.2f} times as fast"
        )
        again = folder / "again"
        killed_and_resumed(command(scenario, again, *words), again, runs)
        first = values_of(folder / "all")
        same = first == values_of(folder / "one") == values_of(again)
        print(f"the three have {'the same' if same else 'DIFFERENT'} values")


def resident_mib(pids: list[int]) -> float:
    most = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        most = max(most, int(fields.get("VmHWM", "0 kB").split()[0]))
    return most / 1024


def group(leader: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader:
            found.append(int(path.parent.name))
    return found


def short(runs: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scenario = folder / "short.toml"
        scenario.write_text(SHORT)
        points = ",".join(f"{4 + number % 50}ms" for number in range(50))
        words = [f"--over=links.wifi.rtt={points}", f"--repetitions={runs // 50}"]
        cores = len(os.sched_getaffinity(0))
        began = time.monotonic()
        running = started(command(scenario, folder / "out", *words))
        seen: list[tuple[int, float]] = []
        while running.poll() is None:
            workers = [pid for pid in group(running.pid) if pid != running.pid]
            seen.append((len(lines_of(folder / "out")), resident_mib(workers)))
            time.sleep(0.5)
        taken_s = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        made = lines_of(folder / "out")
        simulated_s = sum(row["wall_s"] for row in made)
        tenth = next(mib for done, mib in seen if done >= runs / 10)
        print(
            f"{len(made)} runs in {taken_s:.1f} s on {cores} cores: "
            f"{cores * taken_s / runs * 1e3:.1f} ms a run and core, "
            f"{(used.ru_utime + used.ru_stime) / runs * 1e3:.1f} ms of processor time, of which "
            f"{simulated_s / runs * 1e3:.1f} ms to build and simulate; peak memory of a worker "
            f"{tenth:.0f} MiB after a tenth, {max(mib for _, mib in seen):.0f} MiB at the end"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("what", choices=["grid", "short"])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--duration", default="5s")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="an empty folder for what grid makes")
    args = parser.parse_args()
    if args.what == "grid":
        grid(args.repetitions, args.duration, args.keep)
    else:
        short(args.runs)


if __name__ == "__main__":
    main()

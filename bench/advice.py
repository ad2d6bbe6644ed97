"""Does what a run advises help? Random scenarios, run as they are and with what they advise.

    python bench/advice.py [--cases N] [--seed S] [--for DURATION]

Each has one to three links of random rate, round trip, queue and loss, and a connection with a
random buffer, scheduler and congestion control.  Where the leading cause comes with settings, the
scenario is run again with these: a line says what was said and how many times as much arrived then.
The summary counts those that came to at least 8 % more.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from random import Random

from mptcplab.limits.runs import run_limits
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import ScenarioError, load
from mptcplab.simulated import testbed

RATES_MBPS = (1, 2, 5, 10, 20, 50, 100, 200)
ROUND_TRIPS_MS = (2, 10, 30, 60, 150, 300, 600)
MOST_BDP_KBIT = 60_000  # so that windows settle within the run
QUEUES = ("", 'queue = "1BDP"', 'queue = "0.2BDP"', 'queue = "4BDP"', 'queue = "10 packets"')
LOSSES = ("", "", "", 'loss = "0.1%"', 'loss = "1%"', 'loss = "5%"')
BUFFERS_KB = (16, 64, 256, 1000, 4000)
CONTROLS = ("reno", "lia", "olia", "balia", "bbr", "wvegas")
SCHEDULERS = (
    "default",
    "default",
    "default",
    "linux-default",
    "round-robin",
    "2012",
    "blest",
    "ecf",
)
HELPS = 1.08


def scenario(random: Random, duration: str) -> str:
    """Draw one."""
    lines = [f'duration = "{duration}"', 'settle = "5s"', 'hosts = ["a", "b"]']
    lines.append(f'tunables.scheduler = "{random.choice(SCHEDULERS)}"')
    for number in range(random.choice((1, 1, 2, 2, 2, 3))):
        rate, rtt = random.choice(RATES_MBPS), random.choice(ROUND_TRIPS_MS)
        lines += [f"[links.l{number}]", 'between = ["a", "b"]', f'rate = "{rate}Mb/s"']
        lines += [f'rtt = "{rtt if rate * rtt <= MOST_BDP_KBIT else 30}ms"']
        lines += [random.choice(QUEUES), random.choice(LOSSES)]
        if random.random() < 0.25:
            lines.append(f'backward.rate = "{max(0.2, rate / 50):g}Mb/s"')
    lines += ["[flows.main]", 'from = "a"', 'to = "b"']
    if random.random() < 0.3:
        lines.append('protocol = "tcp"')
    if random.random() < 0.4:
        lines.append(f'buffer = "{random.choice(BUFFERS_KB)}kB"')
    for key in ("write_rate", "read_rate"):
        if random.random() < 0.1:
            lines.append(f'{key} = "{random.choice((1, 5, 30))}Mb/s"')
    if random.random() < 0.4:
        lines.append(f'congestion = "{random.choice(CONTROLS)}"')
    return "\n".join(line for line in lines if line) + "\n"


def made(file: Path, overrides: tuple[str, ...], folder: Path) -> Run:
    """Run a scenario with settings."""
    return Run(testbed.run(load(str(file), overrides=overrides), folder, Silent()))


def arrived_bytes(run: Run) -> int:
    """Return what had arrived in the end."""
    rows = run.rows("connections")
    return max(row["bytes_received"] or 0 for row in rows if row["host"] == "b")


def main() -> None:
    """Draw, run, advise, run again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--for", dest="duration", default="20s")
    arguments = parser.parse_args()
    random = Random(arguments.seed)
    made_count = helped = advised = 0
    for number in range(arguments.cases):
        text = scenario(random, arguments.duration)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            file = folder / "drawn.toml"
            file.write_text(text)
            try:
                before = made(file, (), folder / "before")
            except ScenarioError:  # such as a queue of less than a frame
                continue
            made_count += 1
            (diagnosis,) = run_limits(before)
            first = diagnosis.limits[0]
            said = f"{number} {first.cause.value} {first.share:.0%} [{first.detail}] {first.advice}"
            if not diagnosis.remedy.overrides:
                print(said, flush=True)
                continue
            after = made(file, diagnosis.remedy.overrides, folder / "after")
            times = arrived_bytes(after) / max(arrived_bytes(before), 1)
            advised += 1
            helped += times >= HELPS
            print(f"{said}: {times:.2f} times", flush=True)
            if times < HELPS:
                print("   ", "; ".join(text.splitlines()), flush=True)
    print(f"{made_count} scenarios, {advised} with settings, which helped in {helped}")


if __name__ == "__main__":
    main()

"""Hosts with and without offload: one connection on this kernel, beside the simulation.

    python -m bench.offload measure --on linux        # as root
    python -m bench.offload measure --on simulated
    python -m bench.offload page

``measure`` adds the runs that are missing to a file of results, ``--repetitions`` of each case.
``page`` writes the tables of docs/validation/bundling.md from it: goodput and the mean smoothed
round trip at the sender, means of the valid runs with 95 % intervals by Student's t.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from bench.measured_tables import read_results, with_table

import mptcplab
from mptcplab.results.statistics import estimate

PAGE: Final = Path(__file__).parents[1] / "docs" / "validation" / "bundling.md"
RESULTS: Final = Path(__file__).with_name("offload.json")
SETTLE_NS: Final = 1_000_000_000
"""What is left out of each run: its slow start."""

SCENARIO: Final = """
duration = "7s"
hosts.a = {{ offload = {offload} }}
hosts.b = {{ offload = {offload} }}
[links.l]
between = ["a", "b"]
rate = "{rate}"
rtt = "{rtt}"
queue = "1BDP"
loss = "{loss}"
driver = "tap"
[flows.f]
from = "a"
to = "b"
protocol = "tcp"
congestion = "{congestion}"
"""


class Link(NamedTuple):
    """What a connection runs over; the queue holds a bandwidth-delay product."""

    rate: str
    rtt: str
    loss: str = "0%"

    def __str__(self) -> str:
        return f"{self.rate}, {self.rtt}" + ("" if self.loss == "0%" else f", loss {self.loss}")


LINKS: Final = (
    Link("1 Gb/s", "1 ms"),
    Link("1 Gb/s", "10 ms"),
    Link("1 Gb/s", "0.4 ms", "0.1 %"),
    Link("100 Mb/s", "5 ms"),
    Link("100 Mb/s", "1 ms"),
    Link("10 Mb/s", "20 ms"),
)
TOO_MANY_PACKETS: Final = "1 Gb/s"
"""Of this rate the emulator cannot carry packet by packet: one comes every 12 us."""


def key(testbed: str, congestion: str, link: Link, offload: bool) -> str:
    """Return the name of a case in the file of results."""
    return " / ".join((testbed, congestion, str(link), "offload" if offload else "packets"))


def measured(testbed: str, congestion: str, link: Link, offload: bool, seed: int) -> dict[str, Any]:
    """Make one run; return its goodput (Mb/s), round trip (ms), and whether it is valid."""
    text = SCENARIO.format(
        offload="true" if offload else "false", congestion=congestion, **link._asdict()
    )
    with TemporaryDirectory() as folder:
        file = Path(folder, "offload.toml")
        file.write_text(text)
        run = mptcplab.run(file, on=testbed, seed=seed, out=Path(folder, "run"))
        flows = [row for row in run.rows("flows") if row["time_ns"] > SETTLE_NS]
        sent = [
            row["srtt_ns"]
            for row in run.rows("subflows")
            if row["host"] == "a" and row["time_ns"] > SETTLE_NS and row["srtt_ns"]
        ]
        spent_ns = sum(row["interval_ns"] for row in flows)
        return {
            "mbps": sum(row["bytes"] for row in flows) * 8e3 / spent_ns,
            "rtt_ms": sum(sent) / len(sent) / 1e6,
            "valid": run.valid,
        }


def measure(testbed: str, repetitions: int) -> None:
    """Make the runs that are missing, and write each down."""
    for congestion in ("reno", "cubic"):
        for link in LINKS:
            for offload in (True, False):
                if testbed == "linux" and not offload and link.rate == TOO_MANY_PACKETS:
                    continue
                name = key(testbed, congestion, link, offload)
                results = read_results(RESULTS)
                done = results.setdefault(name, [])
                while len(done) < repetitions:
                    done.append(measured(testbed, congestion, link, offload, len(done) + 1))
                    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                    print(name, done[-1], flush=True)


def cells(results: dict[str, Any], *case: Any) -> tuple[str, str]:
    """Return the goodput and the round trip of a case, as the table has them."""
    runs = [run for run in results.get(key(*case), []) if run["valid"]]
    if not runs:
        return "(CPU)", ""
    texts = []
    for what in ("mbps", "rtt_ms"):
        found = estimate([run[what] for run in runs])
        digits = 0 if found.mean >= 100 else 1 if found.mean >= 10 else 2
        texts.append(f"{found.mean:.{digits}f} ± {found.margin:.{digits}f}")
    return texts[0], texts[1]


def table(congestion: str) -> list[str]:
    """Return the table of one congestion control."""
    results = read_results(RESULTS)
    rows = [
        "| link | Linux, offload | its round trip | Linux, none | its round trip "
        "| simulated, offload | its round trip | simulated, none | its round trip |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for link in LINKS:
        texts = [
            text
            for testbed in ("linux", "simulated")
            for offload in (True, False)
            for text in cells(results, testbed, congestion, link, offload)
        ]
        rows.append(f"| {link} | {' | '.join(texts)} |")
    return rows


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("measure", "page"))
    parser.add_argument("--on", choices=("linux", "simulated"), default="simulated")
    parser.add_argument("--repetitions", type=int, default=3)
    asked = parser.parse_args()
    if asked.what == "measure":
        measure(asked.on, asked.repetitions)
        return
    text = PAGE.read_text()
    for congestion in ("reno", "cubic"):
        text = with_table(text, f"offload-{congestion}", table(congestion))
    PAGE.write_text(text)


if __name__ == "__main__":
    main()

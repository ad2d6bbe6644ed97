"""How many ports does it take to use n equal paths? On this kernel, in simulation, and by chance.

    python -m bench.ports_and_paths measure --on linux        # as root
    python -m bench.ports_and_paths measure --on simulated
    python -m bench.ports_and_paths page

Between two switches (``fabric = "openvswitch"``) or two routers (``ecmp = "ports"``) lie n links of
20 Mb/s. Twenty connections, one after the other, open as many subflows as ``ndiffports`` says, each
by other ports. A path is used that a subflow took. On Linux that is what Open vSwitch's datapath
says, or for routers the links that have carried packets of a connection's; in simulation links that
have carried 5 kB or more of it. ``measure`` runs what is not measured yet and adds it to a file, so
that it can be stopped and called again (``--for SECONDS`` stops by itself). ``page`` writes the
tables and the figure of docs/validation/ports-and-paths.md: means over connections, with 95 %
intervals by Student's t.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from fractions import Fraction
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.measured_tables import read_results, with_table

import mptcplab
from mptcplab.linux.lab.lab import Lab, open_scenario
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.network.switching import Taken
from mptcplab.results.statistics import estimate
from mptcplab.scenario import load
from mptcplab.scenario.model import Scenario

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGE: Final = DOCS / "validation" / "ports-and-paths.md"
FIGURE: Final = DOCS / "figures" / "ports-and-paths.svg"
RESULTS: Final = Path(__file__).with_name("ports_and_paths.json")
Used = tuple[int, int]
"""The subflows of a connection, and the paths that they used."""
Results = dict[str, list[Used]]
PATHS: Final = (2, 3, 4)
PORTS: Final = (2, 3, 4, 6, 8)
FEWEST: Final = 5  # connections of which a mean is shown
KINDS: Final = (
    ("fabric", "linux", "Open vSwitch"),
    ("routers", "linux", "kernel ECMP"),
    ("fabric", "simulated", "simulated"),
)
CONNECTIONS: Final = 20
EVERY_MS: Final = 400
PATIENCE_S: Final = 3.0
SETTLING_S: Final = 0.1
SOL_MPTCP: Final = 284  # include/linux/socket.h
MPTCP_INFO: Final = 1  # include/uapi/linux/mptcp.h; its first byte counts subflows but the first
IPPROTO_MPTCP: Final = 262
LASTS_MS: Final = 250  # what is left of the time keeps connections apart
USED_BYTES: Final = 5_000  # three full packets; none of ARP, handshakes and ACKs is as much
RATE_BPS: Final = 20_000_000


def scenario(kind: str, paths: int, ports: int) -> str:
    """Return a scenario of two hosts with so many equal paths between them."""
    switches = '{ west = { fabric = "openvswitch" }, east = { fabric = "openvswitch" } }'
    routers = '{ west = { ecmp = "ports" }, east = { ecmp = "ports" } }'
    middle = f"switches = {switches}" if kind == "fabric" else f"routers = {routers}"
    links = "".join(
        f'p{number} = {{ between = ["west", "east"], rate = "{RATE_BPS}" }}\n'
        for number in range(1, paths + 1)
    )
    flows = "".join(
        f'c{number} = {{ from = "a", to = "b", start = "{number * EVERY_MS}ms", '
        f'stop = "{number * EVERY_MS + LASTS_MS}ms", send_buffer = "100kB" }}\n'
        for number in range(CONNECTIONS)
    )
    return f"""
title = "{paths} paths, {ports} ports"
duration = "{CONNECTIONS * EVERY_MS}ms"
interval = "100ms"
hosts = ["a", "b"]
tunables = {{ ndiffports = {ports} }}
{middle}
[links]
left = {{ between = ["a", "west"], rate = "1Gb/s" }}
right = {{ between = ["east", "b"], rate = "1Gb/s" }}
{links}
[flows]
{flows}
"""


def measure(kind: str, on: str, paths: int, ports: int) -> list[Used]:
    """Return how many subflows each connection opened, and how many paths these used."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "scenario.toml")
        file.write_text(scenario(kind, paths, ports))
        if on == "linux":
            loaded = load(file)
            used: list[Used] = run_supervised(lambda _: _in_lab(loaded, ports))
            return used
        run = mptcplab.run(str(file), on=on, out=Path(folder, "run"))
        if not run.valid:
            print(f"{kind}, {paths} paths, {ports} ports: {run.invalid_reasons[0]}", flush=True)
            return []
        opened = Counter(
            row["flow"]
            for row in run.table("events").to_pylist()
            if row["host"] == "a" and row["event"] == "subflow-established"
        )
        carried = _carried(run)
    return [
        (opened[f"c{number}"], sum(sent >= USED_BYTES for sent in carried[number].values()))
        for number in range(CONNECTIONS)
    ]


def _carried(run: mptcplab.Run) -> dict[int, dict[str, int]]:
    """Return what each path carried forward in the time of each connection (bytes)."""
    carried: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in run.table("links").to_pylist():
        if row["link"].startswith("p") and row["direction"] == "forward":
            number = (row["time_ns"] - 1) // (EVERY_MS * 10**6)
            carried[number][row["link"]] += row["tx_bytes"]
    return carried


def _in_lab(loaded: Scenario, ports: int) -> list[Used]:
    """Open connections one after the other in a lab, and look where their packets have gone."""
    path = loaded.paths(loaded.flows[0])[0]
    here, there = str(path.local_address.ip), str(path.remote_address.ip)
    used = []
    with open_scenario(loaded) as lab, ExitStack() as stack:
        with lab.enter("b"):
            listener = stack.enter_context(_mptcp_socket())
        listener.bind((there, 5001))
        listener.listen()
        seen: set[Taken] = set()
        for _ in range(CONNECTIONS):
            before = _settled(lab)
            with lab.enter("a"):
                client = _mptcp_socket()
            with client:
                client.bind((here, 0))
                client.connect((there, 5001))
                server, _ = listener.accept()
                with server:
                    opened = _wait_for_subflows(client, server, ports)
            if lab.fabric is None:
                now = _packets(lab)
                # a subflow's handshake is three packets forward, without any data
                used.append((opened, sum(now[name] - before[name] > 1 for name in now)))
            else:
                forward = {each for each in lab.fabric.taken() if each.switch == "west"}
                used.append((opened, len({each.link for each in forward - seen})))
                seen = forward
    return used


def _mptcp_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)


def _packets(lab: Lab) -> dict[str, int]:
    return {
        name: link.readings()["forward"].tx_packets
        for name, link in lab.links.items()
        if name.startswith("p")
    }


def _settled(lab: Lab) -> dict[str, int]:
    """Return the packets so far, once the last connection has nothing more to send."""
    before = _packets(lab)
    time.sleep(SETTLING_S)
    while (now := _packets(lab)) != before:
        before = now
        time.sleep(SETTLING_S)
    return now


def _wait_for_subflows(client: socket.socket, server: socket.socket, wanted: int) -> int:
    """Move some bytes until a connection has its subflows; return how many it has."""
    deadline_s = time.monotonic() + PATIENCE_S
    opened = 1
    while opened < wanted and time.monotonic() < deadline_s:
        client.sendall(bytes(1000))
        server.recv(4096)
        time.sleep(0.01)
        opened = 1 + client.getsockopt(SOL_MPTCP, MPTCP_INFO, 64)[0]
    return opened


def make(options: argparse.Namespace) -> None:
    """Run what is wanted and not measured yet."""
    results = read_results(options.results)
    end_s = time.monotonic() + options.seconds
    for kind, paths, ports in product(("fabric", "routers"), PATHS, PORTS):
        key = _key(kind, options.on, paths, ports)
        if (kind, options.on) not in {each[:2] for each in KINDS}:
            continue  # simulated routers and fabrics hash alike
        if key in results or options.only not in key or time.monotonic() > end_s:
            continue
        used = measure(kind, options.on, paths, ports)
        if used:
            results = read_results(options.results) | {key: used}
            lines = json.dumps(results, sort_keys=True).replace("]], ", "]],\n")
            options.results.write_text(lines + "\n")
            print(f"{key}: {used}", flush=True)


def _key(kind: str, on: str, paths: int, ports: int) -> str:
    return f"{kind} {on} {paths} paths {ports} ports"


def used_by(results: Results, kind: str, on: str, paths: int, ports: int) -> list[float]:
    """Return how many paths those connections used that had so many subflows, of all runs."""
    return [
        float(links)
        for asked in PORTS
        for opened, links in results.get(_key(kind, on, paths, asked), ())
        if opened == ports
    ]


def expected(paths: int, ports: int) -> float:
    """Return how many of ``paths`` are hit on average by so many independent, even choices."""
    return paths * (1 - (1 - 1 / paths) ** ports)


def all_hit(paths: int, ports: int) -> float:
    """Return the probability that every path is hit (inclusion and exclusion)."""
    return float(
        sum(
            (-1) ** missed * math.comb(paths, missed) * Fraction(paths - missed, paths) ** ports
            for missed in range(paths + 1)
        )
    )


def used_table(results: Results) -> list[str]:
    """The mean number of paths that a connection used."""
    names = " | ".join(name for _, _, name in KINDS)
    rows = [f"| paths | ports | by chance | {names} |", "|---" * (3 + len(KINDS)) + "|"]
    for paths in PATHS:
        for ports in PORTS:
            cells = [_cell(used_by(results, kind, on, paths, ports)) for kind, on, _ in KINDS]
            rows.append(
                f"| {paths} | {ports} | {expected(paths, ports):.2f} | " + " | ".join(cells) + " |"
            )
    return rows


def _cell(used: list[float]) -> str:
    if len(used) < FEWEST:
        return "-"
    result = estimate(used)
    return f"{result.mean:.2f}" + (f" ± {result.margin:.2f}" if result.margin else "")


def all_table(results: Results) -> list[str]:
    """How many of all connections used every path, and the least number of ports for 95 %."""
    rows = [
        "| paths | ports | by chance (%) | Linux (%) | simulated (%) | 95 % by chance |",
        "|---|---|---|---|---|---|",
    ]
    for paths in PATHS:
        enough = next(ports for ports in range(1, 100) if all_hit(paths, ports) >= 0.95)
        for ports in (paths, 2 * paths):
            if ports not in PORTS:
                continue
            cells = []
            for testbed in ("linux", "simulated"):
                used = [
                    each
                    for kind, on, _ in KINDS
                    if on == testbed
                    for each in used_by(results, kind, on, paths, ports)
                ]
                share = 100 * sum(each == paths for each in used) / len(used) if used else None
                cells.append("-" if share is None else f"{share:.0f} (of {len(used)})")
            chance = 100 * all_hit(paths, ports)
            rows.append(
                f"| {paths} | {ports} | {chance:.0f} | "
                + " | ".join(cells)
                + f" | {enough} ports |"
            )
    return rows


def draw(results: Results) -> None:
    """Draw the mean number of paths over the number of ports, beside what chance gives."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    for place, paths in enumerate(PATHS):
        axes = figure.add_subplot(1, len(PATHS), place + 1)
        theory = [expected(paths, ports) for ports in PORTS]
        axes.plot(PORTS, theory, color="0.6", label="by chance", zorder=1)
        for shift, ((kind, on, name), mark) in enumerate(zip(KINDS, "os^", strict=True)):
            points = [
                (ports + (shift - 1) * 0.14, estimate(used))
                for ports in PORTS
                if len(used := used_by(results, kind, on, paths, ports)) >= FEWEST
            ]
            axes.errorbar(
                [x for x, _ in points],
                [result.mean for _, result in points],
                [result.margin or 0.0 for _, result in points],
                fmt=mark,
                markersize=3.5,
                linewidth=0.8,
                label=name,
            )
        axes.set_title(f"{paths} equal paths", fontsize="medium")
        axes.set_xlabel("ports")
        axes.set_ylim(0.8, max(PATHS) + 0.2)
        axes.set_xticks(list(PORTS))
        if not place:
            axes.set_ylabel("paths used")
            axes.legend(fontsize="x-small", loc="upper left")
    figure.savefig(FIGURE, metadata={"Date": None})


def write_page(options: argparse.Namespace) -> None:
    """Put tables and figure into the page, or print the tables."""
    results = read_results(options.results)
    tables = {"used": used_table(results), "all": all_table(results)}
    if options.show:
        print("\n\n".join("\n".join(rows) for rows in tables.values()))
        return
    text = PAGE.read_text()
    for name, rows in tables.items():
        text = with_table(text, name, rows)
    PAGE.write_text(text)
    draw(results)


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ports_and_paths",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--on", choices=("linux", "simulated"), default="linux")
    measuring.add_argument(
        "--only", default="", help='what contains this, such as "fabric linux 3"'
    )
    measuring.add_argument("--for", dest="seconds", type=float, default=math.inf)
    measuring.set_defaults(run=make)
    writing = commands.add_parser("page")
    writing.add_argument("--show", action="store_true", help="print the tables, write nothing")
    writing.set_defaults(run=write_page)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

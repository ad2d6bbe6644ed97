"""Scenarios of papers on Multipath TCP, simulated from the package's examples.

    python -m bench.papers [fat-tree torus dual-homed-server olia] [--seeds 3]

Prints the tables of docs/validation/papers.md: what users get, beside where LIA and uncoupled
windows settle when every window is its mean (the fixed points that the papers reason with), and of
the FatTree throughput, run time and memory. Uncompiled it takes an hour.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Final, TypeVar

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate, estimate, jain_index
from mptcplab.results.summary import summarise
from mptcplab.scenario import load
from mptcplab.testbeds import run_on

PAYLOAD: Final = 0.95
"""Of a frame of 1,514 bytes: 1,448 bytes of TCP's, 1,428 of Multipath TCP's."""
T = TypeVar("T")
_STEPS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Users:
    """So many users alike, each with a connection over some paths, each path over some links."""

    name: str
    count: int
    paths: tuple[tuple[str, ...], ...]


def settled_mbps(
    users: Sequence[Users],
    links_mbps: dict[str, float],
    windows: Callable[[Sequence[float]], list[float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Return each user's rate, and the relative loss of each link, where all round trips are equal.

    Losses are searched with which no link carries more than it can, and each that loses is full.
    """
    losses = dict.fromkeys(links_mbps, 0.01)
    for step in range(_STEPS):
        loads: dict[str, float] = defaultdict(float)
        rates = {}
        for each in users:
            worth = [1 / sum(losses[link] for link in path) for path in each.paths]
            shares = windows(worth)
            rates[each.name] = sum(shares)
            for path, share in zip(each.paths, shares, strict=True):
                for link in path:
                    loads[link] += each.count * share
        gain = 0.2 if step < _STEPS // 2 else 0.02
        for link, most in links_mbps.items():
            losses[link] = max(1e-12, losses[link] * (loads[link] / most) ** gain)
    return rates, losses


def coupled(worth: Sequence[float]) -> list[float]:
    """LIA with equal round trips: as much as a TCP on the best path, shared by 1 / loss."""
    return [sqrt(2 * max(worth)) * each / sum(worth) for each in worth]


def uncoupled(worth: Sequence[float]) -> list[float]:
    """A TCP on each path."""
    return [sqrt(2 * each) for each in worth]


def of_runs(
    name: str, overrides: Sequence[str], seeds: Sequence[int], measure: Callable[[Run], T]
) -> list[T]:
    """Return what ``measure`` takes from each run of an example; each has to be valid."""
    values = []
    for seed in seeds:
        scenario = load(f"examples/{name}", overrides=(f"seed={seed}", *overrides))
        with tempfile.TemporaryDirectory() as scratch:
            run = Run(run_on("simulated", scenario, Path(scratch) / "run", Silent()))
            assert run.metadata["valid"], run.metadata["invalid_reasons"]
            values.append(measure(run))
    return values


def _from_one(seeds: int) -> range:
    return range(1, seeds + 1)


def rates_mbps(run: Run, name: str) -> list[float]:
    """Return the goodput of each of some users: of the flows NAME1, NAME2, ..."""
    flows = summarise(run)["flows"]
    return [
        each["goodput_bps"] / 1e6 for each in flows if each["name"].rstrip("0123456789") == name
    ]


def mean_rates_mbps(run: Run, names: Sequence[str]) -> list[float]:
    """Return the mean goodput of each kind of users."""
    return [fmean(rates_mbps(run, name)) for name in names]


def shown(value: Estimate, digits: int = 2) -> str:
    """Return a mean with its margin."""
    margin = "" if value.margin is None else f" ± {value.margin:.{digits}f}"
    return f"{value.mean:.{digits}f}{margin}"


@dataclass(frozen=True, slots=True)
class Case:
    """Users who share links, and the example that has them."""

    title: str
    example: str
    overrides: tuple[str, ...]
    users: tuple[Users, ...]
    links_mbps: dict[str, float]
    multipath: tuple[str, ...]
    """The users whose congestion control is set."""


def a_case(blue: int) -> Case:
    return Case(
        f"A, {blue} and 10 users",
        "olia-a",
        _sized("blue", "server", blue),
        (
            Users("blue", blue, (("server",), ("server", "ap"))),
            Users("red", 10, (("ap",),)),
        ),
        {"server": blue, "ap": 10.0},
        ("blue",),
    )


def c_case(multi: int) -> Case:
    return Case(
        f"C, {multi} and 10 users",
        "olia-c",
        _sized("multi", "first", multi),
        (Users("multi", multi, (("first",), ("second",))), Users("single", 10, (("second",),))),
        {"first": multi, "second": 10.0},
        ("multi",),
    )


def _sized(users: str, link: str, count: int) -> tuple[str, ...]:
    """Return what makes an example one of so many users, with as much capacity for each."""
    return (
        f"hosts.{users}.count={count}",
        f"links.{link}.rate={count}Mb/s",
        f"links.{link}.red_min={25 * count // 10} packets",
        f"links.{link}.red_max={50 * count // 10} packets",
    )


_X_AND_T: Final = {"x": 27.0, "t": 36.0}
_BLUE: Final = Users("blue", 15, (("x",), ("t",)))
OLIA: Final = [
    a_case(10),
    a_case(30),
    Case(
        "B, before the upgrade",
        "olia-b",
        ("flows.red.protocol=tcp", "flows.red.congestion=reno"),
        (_BLUE, Users("red", 15, (("t",),))),
        _X_AND_T,
        ("blue",),
    ),
    Case(
        "B, after the upgrade",
        "olia-b",
        (),
        (_BLUE, Users("red", 15, (("t",), ("x", "t")))),
        _X_AND_T,
        ("blue", "red"),
    ),
    c_case(10),
    c_case(30),
]
SERVER: Final = [
    Case(
        "dual-homed server",
        "dual-homed-server",
        (),
        (
            Users("few", 5, (("link1",),)),
            Users("many", 15, (("link2",),)),
            Users("both", 10, (("link1",), ("link2",))),
        ),
        {"link1": 100.0, "link2": 100.0},
        ("both",),
    )
]


def users_table(cases: Sequence[Case], seeds: int) -> None:
    """Print what each user gets in each case, in Mb/s."""
    print("| scenario | users | LIA | fixed point | OLIA | uncoupled | fixed point |")
    print("|---|---|---|---|---|---|---|")
    for case in cases:
        forms = [
            settled_mbps(case.users, case.links_mbps, rule)[0] for rule in (coupled, uncoupled)
        ]
        measured: dict[str, dict[str, list[float]]] = {}
        for control in ("lia", "olia", "reno"):
            chosen = [f"flows.{name}.congestion={control}" for name in case.multipath]
            names = [each.name for each in case.users]
            means = of_runs(
                case.example,
                [*case.overrides, *chosen],
                _from_one(seeds),
                partial(mean_rates_mbps, names=names),
            )
            measured[control] = dict(zip(names, map(list, zip(*means, strict=True)), strict=True))
        for each in case.users:
            lia, olia, reno = (
                shown(estimate(measured[control][each.name])) for control in ("lia", "olia", "reno")
            )
            expected = [f"{form[each.name] * PAYLOAD:.2f}" for form in forms]
            name = f"{each.count} {each.name}" + (" (TCP)" if len(each.paths) == 1 else "")
            cells = [case.title, name, lia, expected[0], olia, reno, expected[1]]
            print("| " + " | ".join(cells) + " |", flush=True)


TORUS: Final = {
    part: (
        f"links.l3.rate={rate}",
        f"links.l3.queue={round(200 * part)} packets",
        f"links.l3.red_min={red_min} packets",
        f"links.l3.red_max={round(50 * part)} packets",
        "duration=600s",
        "settle=60s",
    )
    for part, rate, red_min in (
        (1.0, "12.112Mb/s", 25),
        (0.5, "6.056Mb/s", 13),
        (0.1, "1.211Mb/s", 3),
    )
}
"""The third link with a part of the others' rate, and a queue in proportion: one of as many packets
holds ten times as long, so that its round trip is three times theirs and hardly any are dropped."""


def torus_table(seeds: int) -> None:
    """Print how uneven losses and rates are when the third link of the torus is slower."""
    print("| third link | control | loss of l1 / l3 | fixed point | Jain | fixed point |")
    print("|---|---|---|---|---|---|")
    users = [Users(f"f{at}", 1, ((f"l{at}",), (f"l{at % 5 + 1}",))) for at in range(1, 6)]
    for part, slower in TORUS.items():
        links = {f"l{at}": 12.112 * (part if at == 3 else 1) for at in range(1, 6)}
        for control, rule in (
            ("lia", coupled),
            ("olia", None),
            ("balia", None),
            ("reno", uncoupled),
        ):
            overrides = [*slower, f"flows.*.congestion={control}"]
            found = of_runs("torus", overrides, _from_one(seeds), unevenness)
            ratios, fairness = zip(*found, strict=True)
            forms = ["", ""]
            if rule is not None:
                expected, relative = settled_mbps(users, links, rule)
                forms = [
                    f"{relative['l1'] / relative['l3']:.2f}",
                    f"{jain_index(list(expected.values())):.3f}",
                ]
            shares = [shown(estimate(ratios)), forms[0], shown(estimate(fairness), 3), forms[1]]
            print("| " + " | ".join([f"{1000 * part:.0f}", control, *shares]) + " |", flush=True)


def unevenness(run: Run) -> tuple[float, float]:
    """Return how the loss of the first link is to that of the third, and Jain's index of flows."""
    losses = link_losses(run)
    return losses["l1"] / losses["l3"], jain_index(rates_mbps(run, "f"))


def link_losses(run: Run) -> dict[str, float]:
    """Return the part of packets that each link's queue dropped, after the run's settling time."""
    offered: dict[str, int] = defaultdict(int)
    dropped: dict[str, int] = defaultdict(int)
    for row in run.rows("links"):
        if row["direction"] == "forward" and row["time_ns"] > run.scenario["settle_ns"]:
            offered[row["link"]] += row["tx_packets"] + row["drops_queue"]
            dropped[row["link"]] += row["drops_queue"]
    return {link: dropped[link] / max(count, 1) for link, count in offered.items()}


FAT_TREE: Final = {
    "TCP": ("flows.*.protocol=tcp", "flows.*.congestion=reno"),
    **{f"{count} subflows": (f"tunables.ndiffports={count}",) for count in (2, 4, 8)},
}


def fat_tree_table(seeds: int) -> None:
    """Print throughput of the FatTree of 128 hosts with a permutation, run time and memory."""
    print("| | goodput (Gb/s) | of what access links carry | worst tenth of flows (Mb/s) "
          "| CPU (s) | memory (MiB) |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for title, overrides in FAT_TREE.items():
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            results = pool.starmap(fat_tree, [(overrides, seed) for seed in _from_one(seeds)], 1)
        total, worst, seconds, memory = zip(*results, strict=True)
        goodput = estimate([each / 1e9 for each in total])
        share = goodput.mean / (12.8 * PAYLOAD)
        cells = [title, shown(goodput), f"{share:.0%}", shown(estimate(worst), 1)]
        cells += [f"{sum(seconds) / len(seconds):.0f}", f"{max(memory):.0f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def fat_tree(overrides: Sequence[str], seed: int) -> tuple[float, float, float, float]:
    """Return goodput (bit/s), that of the worst tenth (Mb/s), CPU time (s) and memory (MiB)."""
    started = time.process_time()
    (rates,) = of_runs("fat-tree", [*overrides, "expect=[]"], [seed], sorted_rates)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    worst = rates[: len(rates) // 10]
    return sum(rates) * 1e6, sum(worst) / len(worst), seconds, peak


def sorted_rates(run: Run) -> list[float]:
    return sorted(rates_mbps(run, "f"))


TABLES: Final[dict[str, Callable[[int], None]]] = {
    "fat-tree": fat_tree_table,
    "torus": torus_table,
    "dual-homed-server": lambda seeds: users_table(SERVER, seeds),
    "olia": lambda seeds: users_table(OLIA, seeds),
}


def main() -> None:
    """Print the tables that the arguments name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("tables", metavar="TABLE", nargs="*", default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    for name in args.tables:
        if name not in TABLES:
            parser.error(f"no table {name}; expected {', '.join(TABLES)}")
        print(f"\n## {name}\n")
        TABLES[name](args.seeds)


if __name__ == "__main__":
    main()

"""``mptcplab lab``: persistent testbeds, which run from ``lab up`` to ``lab down``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mptcplab.linux.standing_lab import Entry

_ENVIRONMENTS = ("lan", "wan", "all")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``lab`` and its actions."""
    lab = subparsers.add_parser(
        "lab",
        help="start a persistent testbed and work in it",
        description="Persistent testbeds on this machine. `lab up` creates one that runs until "
        "`lab down`, which removes everything.",
        epilog="Exit status: 0 done, 2 bad input, 3 this machine cannot; of `lab exec`, that of "
        "the command.",
    )
    actions = lab.add_subparsers(metavar="ACTION", required=True)

    up = actions.add_parser(
        "up",
        help="create a testbed, which runs until `lab down`",
        description="Create a testbed from a topology or scenario: hosts, links and switches, "
        "without the flows and the timeline. It runs until `lab down`, which removes everything.",
    )
    up.add_argument(
        "topology",
        metavar="TOPOLOGY",
        help='a topology or scenario file, or a built-in name ("report", or "A" to "I")',
    )
    up.add_argument("--name", metavar="NAME", help="name of the testbed (default: the topology's)")
    up.set_defaults(run=_up)

    show = actions.add_parser("list", help="list the testbeds that are running")
    show.set_defaults(run=_list)

    execute = actions.add_parser(
        "exec",
        help="run a command on a host of a testbed",
        usage="mptcplab lab exec [-h] [--name NAME] HOST -- COMMAND [ARGUMENT ...]",
        description="Run a command on a host of a testbed, in this terminal and folder. The exit "
        "status is the command's.",
    )
    execute.add_argument("host", metavar="HOST", help="the host; `lab list` shows the names")
    execute.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command and its arguments"
    )
    _add_name(execute)
    execute.set_defaults(run=_exec)

    links = actions.add_parser(
        "links",
        help="show the links of a testbed, or set them up and down",
        description="Without arguments, show the links. With an environment, set its links (those "
        "of the given speed) up and all others down, as the report's script did. With --up or "
        "--down, set only these links and leave the others as they are. Management links always "
        "stay as they are.",
    )
    links.add_argument(
        "environment", nargs="?", choices=_ENVIRONMENTS, help="links of this environment"
    )
    links.add_argument(
        "--speed", metavar="RATE", help="only links of this rate: 1 or 10 (Gb/s), or 300M"
    )
    which = links.add_mutually_exclusive_group()
    which.add_argument("--up", action="store_true", help="set these links up; change no others")
    which.add_argument("--down", action="store_true", help="set these links down; change no others")
    _add_name(links)
    links.set_defaults(run=_links)

    down = actions.add_parser(
        "down",
        help="remove a testbed and everything in it",
        description="Remove a testbed: its hosts, its links and the programs that run in it.",
    )
    down.add_argument(
        "name", nargs="?", metavar="NAME", help="the testbed; needed where several are running"
    )
    down.add_argument("--all", action="store_true", help="remove all your testbeds")
    down.set_defaults(run=_down)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", metavar="NAME", help="the testbed; needed where several are running"
    )


def _up(args: argparse.Namespace) -> int:
    from mptcplab.linux import standing_lab
    from mptcplab.linux.lab.lab import open_lab, open_scenario
    from mptcplab.linux.measure.unsupported import check_standing
    from mptcplab.scenario import is_topology, load, load_topology

    scenario = None if is_topology(args.topology) else load(args.topology)
    topology = scenario.topology if scenario else load_topology(args.topology)
    check_standing(topology)
    name = args.name or (scenario.name if scenario else topology.name)
    notes: list[str] = []

    def make() -> Any:
        return open_scenario(scenario) if scenario else open_lab(topology)

    standing_lab.start(name, topology, make, notes.extend)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    entry = standing_lab.find(name)
    print(f"{name} is up: {', '.join(entry.hosts)}")
    print(f"next: mptcplab lab exec {entry.hosts[0]} -- sh   and: mptcplab lab down {name}")
    return 0


def _list(_args: argparse.Namespace) -> int:
    from datetime import datetime

    from mptcplab.linux import standing_lab

    for entry in standing_lab.labs():
        since = datetime.fromtimestamp(entry.created_s).isoformat(sep=" ", timespec="seconds")
        print(f"{entry.name:16} {entry.topology:16} since {since}  {', '.join(entry.hosts)}")
    return 0


def _exec(args: argparse.Namespace) -> int:
    from mptcplab.linux import standing_lab

    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise standing_lab.LabError(
            "lab exec: there is no command; expected `lab exec HOST -- COMMAND`"
        )
    return standing_lab.execute(standing_lab.find(args.name), args.host, command)


def _links(args: argparse.Namespace) -> int:
    from mptcplab.linux import standing_lab

    entry = standing_lab.find(args.name)
    if args.environment is None:
        if args.speed or args.up or args.down:
            raise standing_lab.LabError(
                "lab links: --speed, --up and --down need an environment; expected one of "
                + ", ".join(_ENVIRONMENTS)
            )
    else:
        _switch(entry, args)
    _show(entry)
    return 0


def _switch(entry: Entry, args: argparse.Namespace) -> None:
    from mptcplab.linux import standing_lab

    links = standing_lab.ask(entry, {"do": "links"})[0]["links"]
    rate = None if args.speed is None else _speed(args.speed)
    movable = [link for link in links if link["environment"] != "man"]
    chosen = [
        link
        for link in movable
        if args.environment in ("all", link["environment"]) and rate in (None, link["rate_bps"])
    ]
    if not chosen:
        at = "" if args.speed is None else f" with --speed {args.speed}"
        raise standing_lab.LabError(
            f"lab {entry.name}: there are no links of {args.environment}{at}; `lab links` without "
            "arguments lists them all"
        )
    wanted = {link["name"]: not args.down for link in chosen}
    if not args.up and not args.down:
        wanted = {link["name"]: False for link in movable} | wanted
    for link in movable:
        up = wanted.get(link["name"], link["up"])
        if up != link["up"]:
            standing_lab.ask(entry, {"do": "set", "link": link["name"], "up": up})


def _speed(text: str) -> int:
    from mptcplab.linux.standing_lab import LabError
    from mptcplab.units import UnitError, parse_rate

    try:
        return parse_rate(f"{text}Gb/s" if text.replace(".", "", 1).isdigit() else text)
    except UnitError as error:
        raise LabError(f"--speed: {error}") from error


def _show(entry: Entry) -> None:
    from mptcplab.linux import standing_lab
    from mptcplab.units import format_duration, format_rate, format_size

    print(f"{'link':10} {'ends':42} {'':4} {'up':4} {'rate':>9} {'RTT':>8} {'driver':7} carried")
    for link in standing_lab.ask(entry, {"do": "links"})[0]["links"]:
        rate = "-" if link["rate_bps"] is None else format_rate(link["rate_bps"])
        rtt = format_duration(link["rtt_ns"]) if link["rtt_ns"] else "-"
        carried = " / ".join(format_size(size) for size in link["tx_bytes"])
        print(
            f"{link['name']:10} {link['a'] + ' - ' + link['b']:42} {link['environment']:4} "
            f"{'up' if link['up'] else 'down':4} {rate:>9} {rtt:>8} {link['driver']:7} {carried}"
        )


def _down(args: argparse.Namespace) -> int:
    from mptcplab.linux import standing_lab

    entries = standing_lab.labs() if args.all else [standing_lab.find(args.name)]
    for entry in entries:
        standing_lab.take_down(entry)
        print(f"{entry.name} is down")
    return 0

"""``mptcplab lab``: a standing testbed to play in."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mptcplab.linux.standing_lab import Entry

_ENVIRONMENTS = ("lan", "wan", "all")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``lab`` and its actions."""
    lab = subparsers.add_parser("lab", help="make a testbed that stands, and play in it")
    actions = lab.add_subparsers(metavar="ACTION", required=True)

    up = actions.add_parser("up", help="make a testbed of a topology or scenario; it stays")
    up.add_argument("topology", help='a file, a built-in topology ("report") or experiment ("A")')
    up.add_argument("--name", help="what to call it (default: the topology's own name)")
    up.set_defaults(run=_up)

    show = actions.add_parser("list", help="list the testbeds that stand")
    show.set_defaults(run=_list)

    execute = actions.add_parser("exec", help="run a program on a host: lab exec HOST -- COMMAND")
    execute.add_argument("host")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    _add_name(execute)
    execute.set_defaults(run=_exec)

    links = actions.add_parser(
        "links",
        help="show the links, or choose which are up",
        description="Without arguments, show the links. With an environment, set those of its "
        "links that have the given speed up and all others down, as the report's script did; with "
        "--up or --down, set those and leave the others alone. Management links stay as they are.",
    )
    links.add_argument("environment", nargs="?", choices=_ENVIRONMENTS)
    links.add_argument("--speed", help="1 or 10 (Gb/s), or a rate such as 300M")
    which = links.add_mutually_exclusive_group()
    which.add_argument("--up", action="store_true", help="only set these up")
    which.add_argument("--down", action="store_true", help="only set these down")
    _add_name(links)
    links.set_defaults(run=_links)

    down = actions.add_parser("down", help="take a testbed down")
    down.add_argument("name", nargs="?")
    down.add_argument("--all", action="store_true", help="every testbed of yours")
    down.set_defaults(run=_down)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="of the testbed, where more than one stands")


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
    print(f"{name} stands: {', '.join(entry.hosts)}")
    print(f"try: mptcplab lab exec {entry.hosts[0]} -- sh   and: mptcplab lab down {name}")
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
        raise standing_lab.LabError("lab exec: no command; write `lab exec HOST -- COMMAND`")
    return standing_lab.execute(standing_lab.find(args.name), args.host, command)


def _links(args: argparse.Namespace) -> int:
    from mptcplab.linux import standing_lab

    entry = standing_lab.find(args.name)
    if args.environment is None:
        if args.speed or args.up or args.down:
            raise standing_lab.LabError(f"lab links: say which, one of {', '.join(_ENVIRONMENTS)}")
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
        raise standing_lab.LabError(f"lab {entry.name} has no such links")
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

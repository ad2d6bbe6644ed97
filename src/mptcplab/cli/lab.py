"""``mptcplab lab``: persistent testbeds, which run from ``lab up`` to ``lab down``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from mptcplab.cli.scenario_arguments import add_plugins_argument

if TYPE_CHECKING:
    from mptcplab.linux.standing_lab import Entry
    from mptcplab.scenario import Scenario

ENVIRONMENTS = ("lan", "wan", "all")


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
    up.add_argument(
        "--raise-host-limits",
        nargs="?",
        const="",
        metavar="SIZE",
        help="while it runs, let programs ask for socket buffers of SIZE (iperf -w; default: those "
        "of the scenario's flows), by this machine's net.core.rmem_max and wmem_max",
    )
    add_plugins_argument(up)
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
        help="show the links of a testbed, or set links, NICs and hosts up and down",
        description="Without arguments, show the links. With an environment, set its links (those "
        "of the given speed) up and all others down, as the report's script did (appendix D); "
        "spare links such as VLAN 2000 stay down. With --up or --down, set only what is named and "
        "leave the rest as it is. Management stays as it is unless it is named.",
    )
    links.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help=f"an environment ({', '.join(ENVIRONMENTS)}); or, with --up or --down, a link, a host "
        "(all its NICs), HOST:NIC (with all its VLANs) or HOST:INTERFACE",
    )
    links.add_argument(
        "--speed",
        metavar="SPEED",
        help="of an environment, only what has this speed: as in the script, 10 for 10 Gb/s and 1 "
        "for all that is slower; or a rate such as 300Mb/s",
    )
    links.add_argument(
        "--host",
        metavar="HOST",
        help="of an environment, set the interfaces of this host alone, as the script did on the "
        "host where it ran, and leave the cables plugged in",
    )
    which = links.add_mutually_exclusive_group()
    which.add_argument("--up", action="store_true", help="set these up; change no others")
    which.add_argument("--down", action="store_true", help="set these down; change no others")
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
    from mptcplab.linux.lab.host_limits import limit_bytes, put_back_left_over
    from mptcplab.linux.lab.lab import open_lab, open_scenario
    from mptcplab.linux.measure.unsupported import check_standing
    from mptcplab.scenario import is_topology, load, load_topology

    scenario = None if is_topology(args.topology) else load(args.topology, plugins=args.plugins)
    topology = scenario.topology if scenario else load_topology(args.topology)
    check_standing(topology)
    put_back_left_over(standing_lab.registry())
    asked = _raise_limits(args, scenario)
    name = args.name or (scenario.name if scenario else topology.name)
    notes: list[str] = []

    def make() -> Any:
        return open_scenario(scenario) if scenario else open_lab(topology)

    standing_lab.start(name, topology, make, notes.extend)
    limit = limit_bytes()
    if limit is not None and limit < asked:
        notes.append(
            f"programs may ask for buffers of {limit} bytes at most (iperf -w), "
            f"{'the scenario has' if scenario else 'the report had'} {asked}: "
            "net.core.rmem_max and wmem_max are the machine's; --raise-host-limits raises them "
            "while the testbed runs"
        )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    entry = standing_lab.find(name)
    print(f"{name} is up: {', '.join(entry.hosts)}")
    print(f"next: mptcplab lab exec {entry.hosts[0]} -- sh   and: mptcplab lab down {name}")
    return 0


def _raise_limits(args: argparse.Namespace, scenario: Scenario | None) -> int:
    """Raise the machine's limits where that is asked for; return what programs may want."""
    from mptcplab.cli.doctor import REPORT_BUFFER_BYTES
    from mptcplab.linux import standing_lab
    from mptcplab.linux.lab.host_limits import asked_bytes, raise_limits
    from mptcplab.units import UnitError, parse_size

    asked = asked_bytes(scenario) if scenario else REPORT_BUFFER_BYTES
    if args.raise_host_limits is None:
        return asked
    try:
        size = parse_size(args.raise_host_limits) if args.raise_host_limits else asked
    except UnitError as error:
        raise standing_lab.LabError(f"--raise-host-limits: {error}") from error
    raise_limits(size, standing_lab.registry())
    return size


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
    environments = [target for target in args.targets if target in ENVIRONMENTS]
    if not args.targets:
        if args.speed or args.host or args.up or args.down:
            raise standing_lab.LabError(
                "lab links: --speed, --host, --up and --down need to know of what; expected one of "
                f"{', '.join(ENVIRONMENTS)}, or with --up or --down the name of a link, NIC or host"
            )
    elif environments == args.targets and len(environments) == 1:
        _switch(entry, args, environments[0])
    else:
        _set_named(entry, args)
    _show(entry)
    return 0


def _switch(entry: Entry, args: argparse.Namespace, environment: str) -> None:
    """Set an environment's links, or one host's interfaces, as the report's script did."""
    from mptcplab.linux import standing_lab
    from mptcplab.linux.lab.environments import of_environment, parse_speed, switched
    from mptcplab.units import UnitError

    answer = standing_lab.ask(entry, {"do": "links"})[0]
    kind, parts = "link", answer["links"]
    if args.host is not None:
        kind = "interface"
        parts = [each for each in answer["interfaces"] if each["host"] == args.host]
        if args.host not in entry.hosts:
            known = ", ".join(entry.hosts)
            raise standing_lab.LabError(
                f"lab {entry.name} has no host {args.host}; its hosts are {known}"
            )
    try:
        fits = parse_speed(args.speed)
    except UnitError as error:
        raise standing_lab.LabError(f"--speed: {error}") from error
    chosen = of_environment(parts, environment, fits)
    if not chosen:
        at = "" if args.speed is None else f" with --speed {args.speed}"
        raise standing_lab.LabError(
            f"lab {entry.name}: there are no links of {environment}{at}; `lab links` without "
            "arguments lists them all"
        )
    wanted = switched(parts, environment, fits)
    if args.up or args.down:
        spare = {part["name"] for part in chosen if part["spare"] and args.up}
        wanted = {part["name"]: args.up for part in chosen if part["name"] not in spare}
    is_up = {part["name"]: part["up"] for part in parts}
    # up first: a NIC that comes up takes all its VLANs along
    for name, up in sorted(wanted.items(), key=lambda each: not each[1]):
        if up != is_up[name] or not up:
            standing_lab.ask(entry, {"do": "set", "kind": kind, "name": name, "up": up})


def _set_named(entry: Entry, args: argparse.Namespace) -> None:
    """Set links, NICs, interfaces and hosts up or down by their names."""
    from mptcplab.linux import standing_lab

    if args.speed or args.host or not (args.up or args.down):
        raise standing_lab.LabError(
            f"lab links {' '.join(args.targets)}: by name, links and NICs are set with --up or "
            "--down; --speed and --host go with one environment "
            f"({', '.join(ENVIRONMENTS)}) alone"
        )
    answer = standing_lab.ask(entry, {"do": "links"})[0]
    for kind, name in [part for target in args.targets for part in _parts(entry, answer, target)]:
        standing_lab.ask(entry, {"do": "set", "kind": kind, "name": name, "up": args.up})


def _parts(entry: Entry, answer: dict[str, Any], target: str) -> list[tuple[str, str]]:
    """Return what a target stands for, as (kind, name); LabError where there is none such."""
    from mptcplab.linux.lab.environments import MANAGEMENT
    from mptcplab.linux.standing_lab import LabError

    links, interfaces = answer["links"], answer["interfaces"]
    if target in {link["name"] for link in links}:
        return [("link", target)]
    if target in {each["name"] for each in interfaces}:
        return [("interface", target)]
    nics = {f"{each['host']}:{each['nic']}": each for each in interfaces}
    if target in nics:
        return [("nic", target)]
    if target in entry.hosts:
        return [
            ("nic", name)
            for name, each in nics.items()
            if each["host"] == target and each["environment"] != MANAGEMENT
        ]
    known = [link["name"] for link in links] + list(entry.hosts) + list(nics)
    raise LabError(
        f"lab {entry.name} has no {target}; expected one of {', '.join(known)}, or HOST:INTERFACE"
    )


def _show(entry: Entry) -> None:
    from mptcplab.linux import standing_lab
    from mptcplab.units import format_duration, format_rate, format_size

    print(f"{'link':10} {'ends':42} {'':4} {'up':4} {'rate':>9} {'RTT':>8} {'driver':7} carried")
    for link in standing_lab.ask(entry, {"do": "links"})[0]["links"]:
        rate = "-" if link["rate_bps"] is None else format_rate(link["rate_bps"])
        rtt = format_duration(link["rtt_ns"]) if link["rtt_ns"] else "-"
        carried = " / ".join(format_size(size) for size in link["tx_bytes"])
        down = f"  ({', '.join(link['set_down'])} set down)" if link["set_down"] else ""
        print(
            f"{link['name']:10} {link['a'] + ' - ' + link['b']:42} {link['environment']:4} "
            f"{'up' if link['up'] else 'down':4} {rate:>9} {rtt:>8} {link['driver']:7} "
            f"{carried}{down}"
        )


def _down(args: argparse.Namespace) -> int:
    from mptcplab.linux import standing_lab

    entries = standing_lab.labs() if args.all else [standing_lab.find(args.name)]
    for entry in entries:
        standing_lab.take_down(entry)
        print(f"{entry.name} is down")
    return 0

"""``mptcplab monitor``: interfaces and MPTCP connections, to screen, file or a run's folder."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, suppress
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "monitor",
        help="watch MPTCP connections, or rates of interfaces",
        description="Print, until interrupted, the rates at which interfaces send and receive, and "
        "the round-trip time to a host behind each; without IFACE, each MPTCP connection of this "
        "host, or of that of --ssh, with its subflows: rates, what its sender waits for, round "
        "trips, windows. On a host of a testbed: mptcplab lab exec HOST -- mptcplab monitor.",
        epilog="Exit status: 0 done, 2 bad input, 3 this machine cannot.",
    )
    parser.add_argument("interfaces", nargs="*", metavar="IFACE", help="the interfaces to watch")
    parser.add_argument(
        "--interval", default="1s", metavar="T", help="time between lines (default: %(default)s)"
    )
    parser.add_argument(
        "--rtt",
        action="append",
        default=[],
        metavar="[IFACE=]ADDRESS",
        help="send an ICMP echo request to ADDRESS out of IFACE in every interval; IFACE may be "
        "left out where one is watched (repeatable)",
    )
    parser.add_argument("--count", type=int, metavar="N", help="stop after N intervals")
    parser.add_argument(
        "-o", dest="file", type=Path, metavar="FILE", help="also write CSV to this file"
    )
    parser.add_argument(
        "--ssh",
        metavar="USER@HOST",
        help="watch the MPTCP connections of that host, which needs Python 3.11 or later",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="of connections: leave a run's folder, new or empty, for show and page",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Watch until interrupted; raises MonitorError, whose exit status is 2 or 3."""
    from mptcplab.linux.monitor import MonitorError
    from mptcplab.units import UnitError, parse_duration

    try:
        interval_ns = parse_duration(args.interval)
    except UnitError as error:
        raise MonitorError(f"--interval: {error}", 2) from error
    if interval_ns < 1_000_000:
        raise MonitorError(f"--interval {args.interval}: too short; expected 1ms or more", 2)
    if args.count is not None and args.count < 1:
        raise MonitorError(
            f"--count {args.count}: is not a number of intervals; expected 1 or more", 2
        )
    if args.interfaces:
        return _watch_interfaces(args, interval_ns)
    for option, given in (("--rtt", args.rtt), ("-o", args.file)):
        if given:
            raise MonitorError(f"{option}: is for interfaces; expected IFACE", 2)
    return _watch_connections(args, interval_ns)


def _watch_connections(args: argparse.Namespace, interval_ns: int) -> int:
    """Watch MPTCP connections, here or over SSH."""
    from mptcplab.cli.watched_host import watched_host
    from mptcplab.linux.connection_monitor import watch_connections
    from mptcplab.linux.monitor_run import MonitorRun

    with ExitStack() as stack:
        host = stack.enter_context(watched_host(args.ssh))
        record = None
        if args.out is not None:
            record = MonitorRun(args.out, f"MPTCP connections of {host.name}", interval_ns)
            stack.callback(record.abandon)
        before = host.counters()
        with suppress(KeyboardInterrupt):  # the usual way to end it
            for sockets, readings in watch_connections(host.look, interval_ns, args.count):
                if record is not None:
                    record.take(sockets, readings)
                lines = [line for reading in readings for line in reading.lines()]
                print("\n".join(lines or ["no MPTCP connection"]), "\n", sep="", flush=True)
        if record is not None:
            print(f"Run     {record.finish(before, host.counters())}")
    return 0


def _watch_interfaces(args: argparse.Namespace, interval_ns: int) -> int:
    """Watch interfaces of this host."""
    from mptcplab.linux.monitor import MonitorError, show, watch

    for option, given in (("--ssh", args.ssh), ("--out", args.out)):
        if given:
            raise MonitorError(f"{option}: is for connections; expected no IFACE", 2)
    hosts = {}
    for text in args.rtt:
        interface, named, address = text.rpartition("=")
        if not named and len(args.interfaces) > 1:
            raise MonitorError(
                f"--rtt {text}: names none of the several interfaces; expected one, as in "
                f"{args.interfaces[0]}={text}",
                2,
            )
        interface = interface if named else args.interfaces[0]
        if interface not in args.interfaces:
            raise MonitorError(
                f"--rtt {text}: {interface} is not watched; expected one of "
                + ", ".join(args.interfaces),
                2,
            )
        hosts[interface] = address
    with ExitStack() as stack:
        file = None
        if args.file is not None:
            try:
                file = stack.enter_context(args.file.open("w", newline=""))
            except OSError as error:
                raise MonitorError(f"-o {args.file}: {error.strerror}", 2) from error
        readings = watch(args.interfaces, hosts, interval_ns, args.count)
        with suppress(KeyboardInterrupt):  # the usual way to end it
            show(readings, sys.stdout, file)
    return 0

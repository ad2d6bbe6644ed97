"""``mptcplab monitor``: rates and round trips of interfaces, to screen and file."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, suppress
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "monitor",
        help="watch the rates and round trips of interfaces",
        description="Print the rates at which interfaces send and receive, and the round-trip time "
        "to a host behind each, until interrupted. On a host of a testbed: mptcplab lab exec HOST "
        "-- mptcplab monitor IFACE.",
        epilog="Exit status: 0 done, 2 bad input, 3 this machine cannot.",
    )
    parser.add_argument("interfaces", nargs="+", metavar="IFACE", help="the interfaces to watch")
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Watch until interrupted; raises MonitorError, whose exit status is 2 or 3."""
    from mptcplab.linux.monitor import MonitorError, show, watch
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

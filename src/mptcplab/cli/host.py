"""``mptcplab host``: why this host makes the subflows that it makes, and no others."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mptcplab.hosts.examine import Examination
    from mptcplab.hosts.facts import Address, PacketsSeen

DEFAULT_PORT: Final = 5201
_LONGEST_WAIT_NS: Final = 3_600_000_000_000


class HostError(RuntimeError):
    """What the command cannot do; the text says why and what to do."""

    def __init__(self, text: str, exit_status: int) -> None:
        self.exit_status = exit_status
        super().__init__(text)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "host",
        help="say why this host makes the subflows that it makes, and no others",
        description="Read how this host is set up (sysctls, MPTCP endpoints and limits, addresses, "
        "routes, rules, filters, sockets) and say for each pair of a local and a remote address "
        "whether a subflow joins, and why not. With PEER, open one MPTCP connection there, send "
        "one byte, and say what came of it; where a join gets no answer, try a plain TCP "
        "connection from the same address. Nothing on the host is changed. As root it sees filter "
        "rules, the peer's announcements and packets besides.",
        epilog="Exit status: 0 as many subflows as usable addresses, 1 fewer or not known, 2 bad "
        "input, 3 this machine cannot.",
    )
    parser.add_argument(
        "peer",
        nargs="?",
        metavar="PEER[:PORT]",
        help="a name or address to connect to, [ADDRESS]:PORT for IPv6; the port is "
        f"{DEFAULT_PORT} unless given",
    )
    parser.add_argument(
        "--listen",
        type=int,
        metavar="PORT",
        help="be the other end: serve MPTCP on this port until interrupted",
    )
    parser.add_argument(
        "--wait",
        default="3s",
        metavar="T",
        help="how long to wait for subflows of the connection to PEER (default: %(default)s)",
    )
    parser.add_argument(
        "--capture",
        type=Path,
        metavar="FILE",
        help="add what a capture made on this host shows of the last connection to PEER",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print one JSON object")
    output.add_argument(
        "--fix",
        action="store_true",
        help="print the commands that would mend what is in the way, and run none of them",
    )
    parser.add_argument(
        "--scenario",
        type=Path,
        metavar="FILE",
        help="also write this host's set-up as a scenario, to try it in the laboratory",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine this host, or serve; raises HostError, whose exit status is 2 or 3."""
    if args.listen is not None:
        return _listen(args)
    examination = _examined(args)
    if args.scenario is not None:
        _write_scenario(examination, args.scenario)
    if args.json:
        from mptcplab.hosts.to_json import as_json

        print(json.dumps(as_json(examination), indent=2))
    else:
        from mptcplab.hosts.explain import explained, fix_script

        lines = fix_script(examination.judgement.fixes) if args.fix else explained(examination)
        for line in lines:
            print(line)
    return 0 if examination.judgement.enough else 1


def _examined(args: argparse.Namespace) -> Examination:
    from mptcplab.hosts.examine import examine_host, examine_peer

    wait_s = _wait(args.wait)
    if args.peer is None:
        return examine_host(_seen(args.capture, []))
    addresses, port = _peer(args.peer)
    return examine_peer(addresses, port, wait_s, _seen(args.capture, addresses))


def _wait(text: str) -> float:
    from mptcplab.units import NANOSECONDS, UnitError, parse_duration

    try:
        wait_ns = parse_duration(text)
    except UnitError as error:
        raise HostError(f"--wait: {error}", 2) from error
    if not 0 < wait_ns <= _LONGEST_WAIT_NS:
        raise HostError(f"--wait {text}: expected more than 0 and at most an hour", 2)
    return wait_ns / NANOSECONDS


def _peer(text: str) -> tuple[list[Address], int]:
    """Return the addresses and the port of a PEER."""
    from mptcplab.hosts.read import resolve

    name, port = split_peer(text)
    try:
        return resolve(name, port), port
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HostError(f"{text}: {reason}; expected a name or an address", 2) from error


def split_peer(text: str) -> tuple[str, int]:
    """Return name and port of "NAME", "NAME:PORT", "ADDRESS" or "[ADDRESS]:PORT"; or HostError."""
    name, colon, number = text.rpartition(":")
    if text.startswith("["):
        inside, bracket, behind = text[1:].partition("]")
        if bracket and not behind:
            return inside, DEFAULT_PORT
        name, colon, number = inside, behind[:1], behind[1:]
    elif not colon or ":" in name:  # no port, or an IPv6 address
        return text, DEFAULT_PORT
    is_port = number.isascii() and number.isdigit() and 0 < int(number) < 65536
    if not name or colon != ":" or not is_port:
        raise HostError(
            f"{text}: is no peer; expected NAME, NAME:PORT or [ADDRESS]:PORT, the port from 1 to "
            "65535",
            2,
        )
    return name, int(number)


def _seen(path: Path | None, peers: list[Address]) -> PacketsSeen | None:
    if path is None:
        return None
    from mptcplab.hosts.packets import digest, read_packets
    from mptcplab.trace import CaptureError

    try:
        seen = digest(read_packets(path), peers)
    except CaptureError as error:
        raise HostError(str(error), 2) from error
    if seen is None:
        whom = "to the peer " if peers else ""
        raise HostError(
            f"{path}: no connection {whom}begins here with MP_CAPABLE; expected a capture that has "
            "the first SYN, made on this host (tcpdump -i any -w FILE tcp)",
            2,
        )
    return seen


def _write_scenario(examination: Examination, path: Path) -> None:
    from mptcplab.hosts.as_scenario import scenario_text

    if not examination.judgement.expected:
        raise HostError("--scenario: this host has no usable address, and so no link", 3)
    try:
        path.write_text(scenario_text(examination), encoding="utf-8")
    except OSError as error:
        raise HostError(f"--scenario {path}: {error.strerror}", 2) from error


def _listen(args: argparse.Namespace) -> int:
    from mptcplab.hosts.listen import Listener

    given = [args.peer, args.capture, args.scenario, args.json or None, args.fix or None]
    if any(each is not None for each in given):
        raise HostError("--listen goes alone: it only serves the other host's connection", 2)
    if not 0 < args.listen < 65536:
        raise HostError(f"--listen {args.listen}: expected a port from 1 to 65535", 2)
    try:
        listener = Listener(args.listen)
    except OSError as error:
        raise HostError(
            f"--listen {args.listen}: {error.strerror}; expected a free port, and a kernel with "
            "MPTCP (sysctl net.mptcp.enabled)",
            3,
        ) from error
    try:
        print(
            f"listening on port {args.listen}; on the other host: mptcplab host "
            f"THIS-HOST:{args.listen}",
            flush=True,
        )
        with suppress(KeyboardInterrupt):  # the usual way to end it
            listener.serve(_tell, lambda: True)
    finally:
        listener.close()
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stdout, flush=True)

"""One MPTCP connection to a peer, and what came of it: the only thing that is not reading alone."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final, TypeVar

from mptcplab.hosts.facts import Address, Came, PacketsSeen, Probe, SubflowSeen
from mptcplab.hosts.packets import PacketWatch, digest
from mptcplab.linux.probes.mib import moved, read_counters
from mptcplab.linux.probes.pm_events import PathManagerEvent, PathManagerEvents
from mptcplab.linux.probes.subflows import own_subflows
from mptcplab.linux.traffic.sockets import (
    IPPROTO_MPTCP,
    MPTCP_INFO,
    SOL_MPTCP,
    protocol_in_use,
)

_CONNECT_S: Final = 10.0
_PLAIN_S: Final = 2.0
_LOOK_S: Final = 0.05
_GRACE_S: Final = 0.2
"""How much longer is waited once all came that was expected: for one that is closed again."""
_FIRST_BYTE: Final = b"G"
"""What is sent, so that the handshake completes (RFC 8684 section 3.1): a byte that most servers
take for the beginning of a request, and wait for the rest."""
_NEVER: Final = 1 << 30
_TOKEN_OFFSET: Final = 12  # struct mptcp_info.mptcpi_token


@dataclass
class _Watching:
    """What is looked at while a connection stands."""

    connection: socket.socket
    events: PathManagerEvents | None
    packets: PacketWatch | None
    token: int | None = None
    heard: list[PathManagerEvent] = field(default_factory=list)
    subflows: dict[tuple[Address, int, Address, int], SubflowSeen] = field(default_factory=dict)

    def look(self) -> None:
        """Take what has come since the last look."""
        if self.events is not None:
            self.heard += [e for e in self.events.read() if e.token == self.token]
        if self.packets is not None:
            self.packets.read()
        with suppress(OSError):  # it has fallen back, or the kernel is older than 5.16
            states = {
                "ESTABLISHED": Came.ESTABLISHED,
                "SYN-SENT": Came.UNANSWERED,
            }
            standing = set()
            for each in own_subflows(self.connection):
                local, remote = ip_address(each.local_address), ip_address(each.remote_address)
                key = local, each.local_port, remote, each.remote_port
                came = states.get(each.state, Came.CLOSED)
                port = each.remote_port
                self.subflows[key] = SubflowSeen(local, remote, came, remote_port=port)
                standing.add(key)
            for key, was in self.subflows.items():
                if key not in standing and was.came is Came.ESTABLISHED:
                    self.subflows[key] = replace(was, came=Came.CLOSED)

    def established(self) -> int:
        """Return how many subflows stand."""
        return sum(each.came is Came.ESTABLISHED for each in self.subflows.values())

    def is_waiting(self) -> bool:
        """Say whether a SYN has no answer yet."""
        return any(each.came is Came.UNANSWERED for each in self.subflows.values())

    def all_subflows(self) -> tuple[SubflowSeen, ...]:
        """Return every subflow, with why it was closed where an event said so."""
        known = dict(self.subflows)
        for event in self.heard:
            if event.name != "subflow-closed" or not (event.local_address and event.remote_address):
                continue
            local, remote = ip_address(event.local_address), ip_address(event.remote_address)
            key = local, event.local_port or 0, remote, event.remote_port or 0
            known[key] = SubflowSeen(
                local, remote, Came.CLOSED, event.error, event.reset_reason, event.remote_port or 0
            )
        return tuple(known.values())


def probe(
    remote: Address,
    port: int,
    *,
    expected: int,
    wait_s: float,
    devices: Mapping[Address, str] | None = None,
) -> Probe:
    """Open an MPTCP connection, send one byte, and watch it for ``wait_s`` at most.

    It ends sooner once ``expected`` subflows stand and no SYN waits for an answer.  Afterwards one
    plain TCP connection is tried from each address whose join got no answer, out of its interface
    in ``devices`` if it is there.
    """
    with ExitStack() as stack:
        events = _or_none(stack, PathManagerEvents)
        packets = _or_none(stack, lambda: PacketWatch(port))
        before = read_counters()
        family = socket.AF_INET if remote.version == 4 else socket.AF_INET6
        try:
            connection = socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP)
        except OSError as error:
            return Probe(remote, port, None, "", f"no MPTCP socket: {error.strerror}")
        stack.callback(connection.close)
        connection.settimeout(_CONNECT_S)
        begun = time.monotonic()
        try:
            connection.connect((str(remote), port))
        except OSError as error:
            seen = _seen(packets, remote, None)
            moved_counters = _differences(before)
            return Probe(remote, port, None, "", _why(error), counters=moved_counters, packets=seen)
        name = connection.getsockname()
        local = ip_address(name[0].partition("%")[0])
        protocol = protocol_in_use(connection, "mptcp")
        watching = _Watching(connection, events, packets)
        if protocol == "mptcp":
            info = connection.getsockopt(SOL_MPTCP, MPTCP_INFO, 96)
            (watching.token,) = struct.unpack_from("=I", info, _TOKEN_OFFSET)
        with suppress(OSError):
            connection.send(_FIRST_BYTE)
            _watch(watching, expected if protocol == "mptcp" else 1, wait_s)
        watching.look()
        with suppress(OSError):
            protocol = protocol_in_use(connection, "mptcp")
        subflows = watching.all_subflows()
        waited_ms = round((time.monotonic() - begun) * 1000)
        counters = _differences(before)
        seen = _seen(packets, remote, (local, name[1]))
    unanswered = {s.local for s in subflows if s.came is Came.UNANSWERED and s.remote == remote}
    return Probe(
        remote,
        port,
        local,
        protocol,
        subflows=subflows,
        announced=_announced(watching, seen),
        denies_initial_address=_denies(watching, seen),
        counters=counters,
        packets=seen,
        plain={
            address: plain_tcp(address, remote, port, (devices or {}).get(address, ""))
            for address in sorted(unanswered, key=str)
        },
        waited_ms=waited_ms,
    )


def plain_tcp(local: Address, remote: Address, port: int, device: str = "") -> str:
    """Return what a plain TCP connection from an address comes to: "connected", "refused", "no
    answer", or the kernel's error.
    """
    family = socket.AF_INET if remote.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as plain:
        plain.settimeout(_PLAIN_S)
        try:
            if device:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            plain.bind((str(local), 0))
            plain.connect((str(remote), port))
        except TimeoutError:
            return "no answer"
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return _why(error)
    return "connected"


_Watch = TypeVar("_Watch", PathManagerEvents, PacketWatch)


def _or_none(stack: ExitStack, make: Callable[[], _Watch]) -> _Watch | None:
    """Return what needs more rights than we may have, None where we have not."""
    try:
        made = make()
    except OSError:
        return None
    stack.callback(made.close)
    return made


def _watch(watching: _Watching, expected: int, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_LOOK_S, left))
        watching.look()
        if watching.established() >= expected and not watching.is_waiting():
            deadline = min(deadline, time.monotonic() + _GRACE_S)
            expected = _NEVER


def _differences(before: Mapping[str, int]) -> dict[str, int]:
    after = read_counters()
    return {name: value - was for name, (was, value) in moved(dict(before), after).items()}


def _seen(
    packets: PacketWatch | None, remote: Address, client: tuple[Address, int] | None
) -> PacketsSeen | None:
    return None if packets is None else digest(packets.read(), [remote], client)


def _announced(watching: _Watching, seen: PacketsSeen | None) -> tuple[Address, ...] | None:
    if watching.events is None and seen is None:
        return None
    heard = [
        ip_address(event.remote_address)
        for event in watching.heard
        if event.name == "address-announced" and event.remote_address
    ]
    return tuple(dict.fromkeys([*heard, *(seen.announced if seen else ())]))


def _denies(watching: _Watching, seen: PacketsSeen | None) -> bool | None:
    if seen is not None and seen.denies_initial_address is not None:
        return seen.denies_initial_address
    said = [event.denies_initial_address for event in watching.heard]
    return True if True in said else None


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return error.strerror or str(error)

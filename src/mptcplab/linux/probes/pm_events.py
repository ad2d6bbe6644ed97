"""The MPTCP path manager's events in a host's namespace, from generic netlink."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass
from typing import Final

from mptcplab.linux.kernel import netlink
from mptcplab.linux.kernel.netlink import (
    NETLINK_GENERIC,
    GenericFamily,
    NetlinkSocket,
    resolve_family,
)
from mptcplab.linux.probes.diag import address_text
from mptcplab.linux.probes.multicast import datagrams, subscribe

_FAMILY: Final = "mptcp_pm"
_GROUP: Final = "mptcp_pm_events"

# include/uapi/linux/mptcp_pm.h, enum mptcp_event_type
_EVENT_NAMES: Final = {
    1: "created",
    2: "established",
    3: "closed",
    6: "address-announced",
    7: "address-removed",
    10: "subflow-established",
    11: "subflow-closed",
    13: "subflow-priority",
    15: "listener-created",
    16: "listener-closed",
}
# enum mptcp_event_attr
_TOKEN: Final = 1
_LOC_ID, _REM_ID = 3, 4
_SADDR4, _SADDR6, _DADDR4, _DADDR6 = 5, 6, 7, 8
_SPORT, _DPORT = 9, 10
_BACKUP, _ERROR = 11, 12
_FLAGS: Final = 13
_DENY_JOIN_ID0: Final = 1  # MPTCP_PM_EV_FLAG_DENY_JOIN_ID0
_RESET_REASON: Final = 16


@dataclass(frozen=True, slots=True)
class PathManagerEvent:
    """One event: who, which addresses, and an errno where a subflow died of one."""

    monotonic_ns: int
    name: str
    token: int | None
    local_address: str | None = None
    local_port: int | None = None
    remote_address: str | None = None
    remote_port: int | None = None
    local_id: int | None = None
    remote_id: int | None = None
    backup: bool = False
    error: int = 0
    reset_reason: int | None = None
    denies_initial_address: bool | None = None
    """Whether the peer refuses joins to the address of the initial subflow (the C flag of RFC 8684
    section 3.1); None where the event does not say, as before Linux 6.18."""


class PathManagerEvents:
    """Listens in the network namespace it is created in; OSError where the kernel has no MPTCP."""

    def __init__(self) -> None:
        self._channel = NetlinkSocket(NETLINK_GENERIC)
        family = resolve_family(self._channel, _FAMILY, version=1)
        if family is None:
            raise OSError("the kernel has no MPTCP path manager (CONFIG_MPTCP)")
        if _GROUP not in family.groups:
            raise OSError("the kernel's MPTCP path manager has no events (Linux 5.12 or later has)")
        self._kind = family.kind
        subscribe(self._channel, family.groups[_GROUP])

    def fileno(self) -> int:
        """The descriptor that becomes readable when an event is there."""
        return self._channel.fileno()

    def close(self) -> None:
        """Give the netlink socket back."""
        self._channel.close()

    def read(self) -> list[PathManagerEvent]:
        """Return the events that have come, stamped with the time of this call."""
        now_ns = time.monotonic_ns()
        return [
            event
            for data in datagrams(self._channel)
            for event in parse_events(data, self._kind, now_ns)
        ]


def parse_events(data: bytes, kind: int, now_ns: int) -> list[PathManagerEvent]:
    """Return the events in one datagram; messages of other families are passed over."""
    events = []
    for message in netlink.messages(data):
        if message.kind == kind:
            command, payload = GenericFamily.payload(message)
            events.append(_event(command, netlink.attributes(payload), now_ns))
    return events


def _event(command: int, values: dict[int, bytes], now_ns: int) -> PathManagerEvent:
    return PathManagerEvent(
        monotonic_ns=now_ns,
        name=_EVENT_NAMES.get(command, f"event {command}"),
        token=_number(values.get(_TOKEN)),
        local_address=_either(values, _SADDR4, _SADDR6),
        local_port=_port(values.get(_SPORT)),
        remote_address=_either(values, _DADDR4, _DADDR6),
        remote_port=_port(values.get(_DPORT)),
        local_id=_number(values.get(_LOC_ID)),
        remote_id=_number(values.get(_REM_ID)),
        backup=bool(_number(values.get(_BACKUP))),
        error=_number(values.get(_ERROR)) or 0,
        reset_reason=_number(values.get(_RESET_REASON)),
        denies_initial_address=None
        if _FLAGS not in values
        else bool((_number(values[_FLAGS]) or 0) & _DENY_JOIN_ID0),
    )


def _number(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value, sys.byteorder)


def _port(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value, "big")


def _either(values: dict[int, bytes], v4: int, v6: int) -> str | None:
    if v4 in values:
        return address_text(socket.AF_INET, values[v4])
    if v6 in values:
        return address_text(socket.AF_INET6, values[v6])
    return None

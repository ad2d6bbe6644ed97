"""Interfaces that come and go in a network namespace, as the kernel announces it."""

from __future__ import annotations

import struct
from typing import Final

from mptcplab.linux.kernel import netlink
from mptcplab.linux.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from mptcplab.linux.probes.multicast import datagrams, subscribe

_IFINFO: Final = struct.Struct("=BxHiII")  # struct ifinfomsg
_RTNLGRP_LINK: Final = 1
_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_IFLA_IFNAME: Final = 3
_IFF_UP: Final = 1
_IFF_RUNNING: Final = 0x40


class LinkWatch:
    """Hears of interfaces in the network namespace it is created in (RTNLGRP_LINK)."""

    def __init__(self) -> None:
        self._channel = NetlinkSocket(NETLINK_ROUTE)
        subscribe(self._channel, _RTNLGRP_LINK)

    def fileno(self) -> int:
        """The descriptor that becomes readable when something changed."""
        return self._channel.fileno()

    def changes(self) -> list[tuple[str, bool]]:
        """Return (interface, whether it carries frames) for each change since the last call."""
        return [change for data in datagrams(self._channel) for change in parse_changes(data)]

    def close(self) -> None:
        """Give the netlink socket back."""
        self._channel.close()


def parse_changes(data: bytes) -> list[tuple[str, bool]]:
    """Return (interface, up and with carrier) for each link message in a datagram."""
    changes = []
    for message in netlink.messages(data):
        if message.kind in (_RTM_NEWLINK, _RTM_DELLINK):
            _, _, _, flags, _ = _IFINFO.unpack_from(message.body)
            attributes = netlink.attributes(message.body[_IFINFO.size :])
            name = attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode()
            needed = _IFF_UP | _IFF_RUNNING
            changes.append((name, message.kind == _RTM_NEWLINK and flags & needed == needed))
    return changes

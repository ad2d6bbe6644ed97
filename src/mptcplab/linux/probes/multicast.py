"""Reading what netlink multicasts, without waiting for it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

from mptcplab.linux.kernel.netlink import NetlinkSocket

_DATAGRAM_BYTES: Final = 1 << 16


def subscribe(channel: NetlinkSocket, group: int) -> None:
    """Join a multicast group with a channel that serves nothing else from now on."""
    channel.join(group)
    os.set_blocking(channel.fileno(), False)


def datagrams(channel: NetlinkSocket) -> Iterator[bytes]:
    """Yield the datagrams that have come; what the kernel had no room for is passed over."""
    while True:
        try:
            yield os.read(channel.fileno(), _DATAGRAM_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise

"""The path MTU of each pair of addresses, as routers have told it (RFC 1191, RFC 8201).

As Linux keeps it in exceptions of its routes (net/ipv4/route.c, ``__ip_rt_update_pmtu``): all
connections between two addresses share it, and it is forgotten after ten minutes.
"""

from __future__ import annotations

from typing import Final

EXPIRES_NS: Final = 600_000_000_000
"""Linux's route/mtu_expires; RFC 1191 section 6.3 recommends ten minutes as well."""

LEAST_IPV4_BYTES: Final = 552
"""Linux's route/min_pmtu. What routers say below it counts as this.

DEVIATION: Linux then lets routers fragment; what we send is never to be fragmented.
"""

LEAST_IPV6_BYTES: Final = 1280
"""RFC 8201 section 4: "A node MUST NOT reduce its estimate of the Path MTU below the IPv6 minimum
link MTU in response to a Packet Too Big message". Linux ignores such a message."""


class PathMtus:
    """What is known of path MTUs, in bytes, and until when."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        """MTU and when it expires, by local and remote address."""

    def find(self, local: bytes, remote: bytes, now_ns: int) -> tuple[int, int] | None:
        """Return the path MTU between two addresses, and when it is forgotten; None where nothing
        is known of it.
        """
        known = self._known.get((local, remote))
        return None if known is None or known[1] <= now_ns else known

    def take(
        self, local: bytes, remote: bytes, told_bytes: int, interface_bytes: int, now_ns: int
    ) -> int:
        """Take in what a router has told; return the path MTU by it, 0 where it is to be ignored.

        ``interface_bytes`` is the MTU of our own interface. A path MTU never grows by what is told.
        """
        if len(local) == 4:
            told_bytes = max(told_bytes, LEAST_IPV4_BYTES)
        elif told_bytes < LEAST_IPV6_BYTES:
            return 0
        known = self.find(local, remote, now_ns)
        known_bytes = interface_bytes if known is None else known[0]
        if told_bytes >= interface_bytes or told_bytes > known_bytes:
            return 0
        self._known[local, remote] = (told_bytes, now_ns + EXPIRES_NS)
        return told_bytes

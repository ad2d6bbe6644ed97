"""What a connection may ask of its host: addresses, MSS, ports and random numbers."""

from __future__ import annotations

from mptcplab.compiling import mypyc_attr
from mptcplab.stack.fast_open import FastOpen
from mptcplab.stack.path_managers.base import LocalAddress


@mypyc_attr(allow_interpreted_subclasses=True)
class HostView:
    """The host of a connection; :class:`~mptcplab.stack.stack.Stack` is one.

    No ABC, as :class:`~mptcplab.stack.ready.Node` is none.
    """

    __slots__ = ()

    def host_addresses(self) -> list[LocalAddress]:
        """Return the host's addresses, in its order, links down included."""
        raise NotImplementedError

    def source_for(self, remote: bytes) -> bytes:
        """Return the first address of the same family whose link is up; empty if there is none."""
        raise NotImplementedError

    def mss_for(self, local: bytes) -> int:
        """Return the MSS in bytes that is announced from an address (RFC 9293 section 3.7.1)."""
        raise NotImplementedError

    def path_mtu(self, local: bytes, remote: bytes, now_ns: int) -> tuple[int, int]:
        """Return the path MTU in bytes that routers have told of, and when that is forgotten.

        (0, ``NEVER_NS``) where they have told nothing.
        """
        raise NotImplementedError

    def local_port(self, local: bytes, wanted: int, remote: bytes, remote_port: int) -> int:
        """Return ``wanted``, or a free ephemeral port for 0; 0 if it is taken or none is free."""
        raise NotImplementedError

    def fast_open(self) -> FastOpen:
        """Return the host's cookies of TCP Fast Open."""
        raise NotImplementedError

    def random_bits(self, count: int) -> int:
        """Return a random number of so many bits, from the host's seeded generator."""
        raise NotImplementedError

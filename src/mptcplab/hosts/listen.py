"""A server for the probe of another host: it speaks MPTCP, reads what comes, and answers a byte."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from mptcplab.linux.traffic.sockets import IPPROTO_MPTCP, name_of, protocol_in_use

_BACKLOG: Final = 16
_ANSWER: Final = b"x"


def _dual_socket() -> socket.socket:
    """Return an MPTCP socket that takes IPv4 and IPv6, or IPv4 where the machine has no other."""
    try:
        both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return both


class Listener:
    """A listening MPTCP socket on a port, for IPv4 and IPv6, and the connections that came.

    OSError where the port is taken, or the kernel makes no MPTCP socket.
    """

    def __init__(self, port: int) -> None:
        self._socket = _dual_socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("", port))
            self._socket.listen(_BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)

    def serve(self, tell: Callable[[str], Any], more: Callable[[], bool]) -> None:
        """Serve while ``more`` says so, which is asked five times a second; tell of connections."""
        while more():
            for key, _ in self._selector.select(0.2):
                if key.fileobj is self._socket:
                    with suppress(OSError):  # it is gone again
                        connection, address = self._socket.accept()
                        connection.setblocking(False)
                        self._selector.register(connection, selectors.EVENT_READ)
                        spoken = protocol_in_use(connection, "mptcp")
                        what = "MPTCP" if spoken == "mptcp" else "plain TCP"
                        tell(f"{name_of(address)} connected with {what}")
                else:
                    self._answer(key.fileobj)

    def _answer(self, connection: Any) -> None:
        try:
            if connection.recv(4096):
                connection.send(_ANSWER)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._selector.unregister(connection)
        connection.close()

    def close(self) -> None:
        """Close the listener and its connections."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

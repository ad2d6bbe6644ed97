"""IP addresses, text to packed bytes and back."""

from __future__ import annotations

import socket

from mptcplab.wire.error import WireError


def parse_address(text: str) -> bytes:
    """Return the packed form (4 or 16 bytes) of an IPv4 or IPv6 address.

    Raises ``WireError`` when ``text`` is neither.
    """
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_pton(family, text)
    except OSError:
        raise WireError(f"{text!r} is not an IPv4 or IPv6 address") from None


def format_address(address: bytes) -> str:
    """Return the text of a packed IPv4 or IPv6 address."""
    if len(address) == 4:
        return socket.inet_ntop(socket.AF_INET, address)
    if len(address) == 16:
        return socket.inet_ntop(socket.AF_INET6, address)
    raise WireError(f"an address has {len(address)} bytes, expected 4 or 16")

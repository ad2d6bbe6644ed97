"""The endpoints and limits of the kernel's own MPTCP path manager, in one host's namespace.

Generic netlink family ``mptcp_pm`` version 1; numbers and layouts: include/uapi/linux/mptcp_pm.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from mptcplab.linux.kernel.netlink import (
    NLM_F_DUMP,
    GenericFamily,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    resolve_family,
    s32,
    u8,
    u16,
    u32,
)

Address = IPv4Address | IPv6Address

_FAMILY: Final = "mptcp_pm"
_VERSION: Final = 1

_ADD_ADDR: Final = 1
_DEL_ADDR: Final = 2
_GET_ADDR: Final = 3
_SET_LIMITS: Final = 5
_GET_LIMITS: Final = 6
_SET_FLAGS: Final = 7

_ATTR_ADDR: Final = 1
_ATTR_RCV_ADD_ADDRS: Final = 2
_ATTR_SUBFLOWS: Final = 3

_ADDR_FAMILY: Final = 1
_ADDR_ID: Final = 2
_ADDR_ADDR4: Final = 3
_ADDR_ADDR6: Final = 4
_ADDR_PORT: Final = 5
_ADDR_FLAGS: Final = 6
_ADDR_IF_INDEX: Final = 7

ENDPOINTS_MAX: Final = 8
"""Endpoints, and extra subflows of a connection, that Linux before 7.0 takes at most
(net/mptcp/protocol.h, MPTCP_PM_ADDR_MAX)."""


class Flags(IntFlag):
    """What an endpoint is for (MPTCP_PM_ADDR_FLAG_*)."""

    SIGNAL = 1
    SUBFLOW = 2
    BACKUP = 4
    FULLMESH = 8
    IMPLICIT = 16
    LAMINAR = 32


def flag_names(flags: Flags) -> str:
    """Return flags as text: "signal+backup"."""
    return "+".join(flag.name.lower() for flag in Flags if flag in flags and flag.name)


_NO_FLAGS: Final = Flags(0)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that the path manager may use.

    ``identifier`` 0 lets the kernel choose one; ``interface_index`` 0 leaves the interface to
    routing; ``port`` (with SIGNAL only) makes the kernel listen there as well.
    """

    address: Address
    flags: Flags = _NO_FLAGS
    identifier: int = 0
    port: int = 0
    interface_index: int = 0

    def __str__(self) -> str:
        names = flag_names(self.flags)
        port = f" port {self.port}" if self.port else ""
        return f"{self.address}{port} {names}".rstrip()


@dataclass(frozen=True, slots=True)
class Limits:
    """How many subflows a connection may have beyond its first, and addresses it takes in."""

    subflows: int
    add_addr_accepted: int


def encode_endpoint(kind: int, endpoint: Endpoint, *, with_identifier: bool = False) -> bytes:
    """Return an endpoint as a nested attribute of the given type.

    The identifier 0, which elsewhere means "none given", is spelt out for ``with_identifier``.
    """
    address = endpoint.address
    if isinstance(address, IPv4Address):
        parts = [u16(_ADDR_FAMILY, socket.AF_INET), attribute(_ADDR_ADDR4, address.packed)]
    else:
        parts = [u16(_ADDR_FAMILY, socket.AF_INET6), attribute(_ADDR_ADDR6, address.packed)]
    if endpoint.identifier or with_identifier:
        parts.append(u8(_ADDR_ID, endpoint.identifier))
    if endpoint.port:
        parts.append(u16(_ADDR_PORT, endpoint.port))
    if endpoint.flags:
        parts.append(u32(_ADDR_FLAGS, endpoint.flags))
    if endpoint.interface_index:
        parts.append(s32(_ADDR_IF_INDEX, endpoint.interface_index))
    return nested(kind, *parts, flag=True)


def decode_endpoint(data: bytes) -> Endpoint:
    """Return the endpoint in a nested attribute's value."""
    values = attributes(data)
    packed = values.get(_ADDR_ADDR4) or values[_ADDR_ADDR6]
    return Endpoint(
        address=ip_address(packed),
        flags=Flags(_number(values.get(_ADDR_FLAGS), "=I")),
        identifier=_number(values.get(_ADDR_ID), "=B"),
        port=_number(values.get(_ADDR_PORT), "=H"),
        interface_index=_number(values.get(_ADDR_IF_INDEX), "=i"),
    )


def _number(value: bytes | None, layout: str) -> int:
    return 0 if value is None else int(struct.unpack(layout, value)[0])


class PathManager:
    """The path manager of the namespace that ``open_channel`` opens a generic netlink socket in.

    Every method raises NetlinkError, with what was asked and the kernel's reason, where refused.
    """

    def __init__(self, open_channel: Callable[[], NetlinkSocket]) -> None:
        self._open_channel = open_channel
        self._bound: tuple[NetlinkSocket, GenericFamily] | None = None

    def _connection(self) -> tuple[NetlinkSocket, GenericFamily]:
        if self._bound is None:
            channel = self._open_channel()
            family = resolve_family(channel, _FAMILY, _VERSION)
            if family is None:
                raise OSError("this kernel has no MPTCP path manager (CONFIG_MPTCP)")
            self._bound = channel, family
        return self._bound

    def _do(self, command: int, what: str, *body: bytes) -> None:
        channel, family = self._connection()
        channel.request(family.request(command, b"".join(body), what))

    def _query(self, command: int, what: str, body: bytes, flags: int = 0) -> list[bytes]:
        channel, family = self._connection()
        answers = channel.query(family.request(command, body, what, flags))
        return [family.payload(message)[1] for message in answers]

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint; it acts at once on the connections there are."""
        self._do(_ADD_ADDR, f"add endpoint {endpoint}", encode_endpoint(_ATTR_ADDR, endpoint))

    def add_all(self, endpoints: list[Endpoint]) -> None:
        """Add several endpoints in one go."""
        channel, family = self._connection()
        channel.batch(
            family.request(
                _ADD_ADDR, encode_endpoint(_ATTR_ADDR, endpoint), f"add endpoint {endpoint}"
            )
            for endpoint in endpoints
        )

    def delete(self, endpoint: Endpoint) -> None:
        """Delete an endpoint by its identifier; REMOVE_ADDR goes out and its subflows close.

        Identifier 0 stands for the address of initial subflows, and then ``address`` says which.
        """
        body = encode_endpoint(_ATTR_ADDR, endpoint, with_identifier=True)
        self._do(_DEL_ADDR, f"delete endpoint {endpoint}", body)

    def set_flags(self, endpoint: Endpoint) -> None:
        """Make the endpoint of this address a backup or a regular one, as its flags say.

        The peer is told (MP_PRIO), of the first subflow of each connection from that address alone.
        """
        body = encode_endpoint(_ATTR_ADDR, endpoint)
        self._do(_SET_FLAGS, f"set the priority of endpoint {endpoint}", body)

    def endpoints(self) -> list[Endpoint]:
        """Return every endpoint."""
        answers = self._query(_GET_ADDR, "list endpoints", b"", NLM_F_DUMP)
        return [decode_endpoint(attributes(answer)[_ATTR_ADDR]) for answer in answers]

    def set_limits(self, limits: Limits) -> None:
        """Set the limits of connections to come."""
        self._do(
            _SET_LIMITS,
            f"set limits to {limits.subflows} subflows, {limits.add_addr_accepted} addresses",
            u32(_ATTR_RCV_ADD_ADDRS, limits.add_addr_accepted),
            u32(_ATTR_SUBFLOWS, limits.subflows),
        )

    def limits(self) -> Limits:
        """Return the limits."""
        (answer,) = self._query(_GET_LIMITS, "get limits", b"")
        values = attributes(answer)
        return Limits(
            _number(values.get(_ATTR_SUBFLOWS), "=I"),
            _number(values.get(_ATTR_RCV_ADD_ADDRS), "=I"),
        )

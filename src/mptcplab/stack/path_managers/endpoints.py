"""Linux's path manager: endpoints with flags, and limits (net/mptcp/pm_kernel.c, Linux 6.18).

It acts when the connection is established, when an endpoint is added or removed and when the peer
announces an address, and at no other time: links are invisible to it, and a subflow that died is
not opened again. ``LinkAwareEndpoints`` differs exactly there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Flag, auto

from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    CloseSubflow,
    Command,
    OpenSubflow,
    PathManager,
    PathView,
    RemoteAddress,
    RemoveAddress,
    SetPriority,
    SubflowPath,
)

MOST_ENDPOINTS = 8
"""MPTCP_PM_ADDR_MAX of Linux 6.18."""
MOST_SUBFLOWS = 8
"""The highest limit that Linux 6.18 takes."""


class EndpointFlag(Flag):
    """What an endpoint is for (MPTCP_PM_ADDR_FLAG_*)."""

    SIGNAL = auto()
    SUBFLOW = auto()
    BACKUP = auto()
    FULLMESH = auto()
    LAMINAR = auto()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address for MPTCP to use. Raises ValueError for what ``ip mptcp`` refuses."""

    address_id: int
    address: bytes
    flags: EndpointFlag
    port: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.address_id <= 255:
            raise ValueError(f"endpoint id {self.address_id}: expected 1 to 255")
        if EndpointFlag.FULLMESH in self.flags and EndpointFlag.SIGNAL in self.flags:
            raise ValueError(f"endpoint {self.address_id}: fullmesh and signal exclude each other")
        if self.port and EndpointFlag.SIGNAL not in self.flags:
            raise ValueError(f"endpoint {self.address_id}: a port needs the flag signal")
        if self.port and EndpointFlag.SUBFLOW in self.flags:
            raise ValueError(f"endpoint {self.address_id}: a port excludes the flag subflow")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a connection may have (``ip mptcp limits``)."""

    subflows: int = 2
    """Further subflows, whoever opens them; the initial one does not count. Default of 6.18."""
    add_addr_accepted: int = 0
    """Announced addresses that may be used."""

    def __post_init__(self) -> None:
        for name in ("subflows", "add_addr_accepted"):
            if not 0 <= getattr(self, name) <= MOST_SUBFLOWS:
                raise ValueError(f"limit {name}: expected 0 to {MOST_SUBFLOWS}")


class Endpoints(PathManager):
    """Endpoints and limits, as upstream Linux has them."""

    def __init__(self, endpoints: list[Endpoint], limits: Limits) -> None:
        """Take the host's endpoints, in order of preference, and limits.

        Raises ValueError for more than eight endpoints, or an id or address given twice.
        """
        self.limits = limits
        self.endpoints: list[Endpoint] = []
        self._used: set[int] = set()
        """Endpoint ids announced or tried (the kernel's complement of id_avail_bitmap)."""
        self._accepted = 0
        self._accepts = limits.subflows > 0 and limits.add_addr_accepted > 0
        """Whether a further announced address is used: decided after each, as in the kernel, so
        that a connection may come to have more subflows than the limit allows."""
        self._taken: list[RemoteAddress] = []
        """Announced before the connection was established, and used then."""
        for endpoint in endpoints:
            self._check_new(endpoint)
            self.endpoints.append(endpoint)

    def on_established(self, view: PathView) -> list[Command]:
        """Use what the peer has announced, announce our own, then open subflows, within limits."""
        commands: list[Command] = []
        for endpoint in self.endpoints:
            if endpoint.address == view.initial_local and not endpoint.port:
                self._used.add(endpoint.address_id)
                if EndpointFlag.BACKUP in endpoint.flags:
                    commands += [
                        SetPriority(subflow.subflow_id, True)
                        for subflow in view.subflows
                        if subflow.local_id == 0
                    ]
        self._taken = [remote for remote in view.remote_addresses if remote.address_id != 0]
        opened: list[Command] = []
        for remote in self._taken:
            opened += self._use_announced(view, remote, len(opened))
        return commands + opened + self._use_endpoints(view, len(opened))

    def on_subflow_established(self, view: PathView, path: SubflowPath) -> list[Command]:
        """Go on with endpoints that were not tried yet, if the limits allow."""
        return self._use_endpoints(view)

    def on_subflow_closed(self, view: PathView, path: SubflowPath, failed: bool) -> list[Command]:
        """Use the room for endpoints that were not tried yet; the one that died is not opened."""
        return self._use_endpoints(view)

    def on_remote_added(self, view: PathView, remote: RemoteAddress) -> list[Command]:
        """Open subflows to an announced address: from all fullmesh endpoints, else one laminar,
        else from the address that routing chooses."""
        if remote in self._taken:
            self._taken.remove(remote)
            return []
        return self._use_announced(view, remote)

    def on_remote_removed(self, view: PathView, address_id: int) -> list[Command]:
        """Close the subflows to the address; another may be accepted for it."""
        if address_id and self._accepted > 0:
            self._accepted -= 1
            self._accepts = True
        return super().on_remote_removed(view, address_id)

    def accepts(self, view: PathView) -> bool:
        """The limit on subflows holds for joins too."""
        return self._room(view) > 0

    def add_endpoint(self, view: PathView, endpoint: Endpoint) -> list[Command]:
        """Use a new endpoint at once. Raises ValueError as the constructor does."""
        self._check_new(endpoint)
        self.endpoints.append(endpoint)
        return self._use_endpoints(view)

    def remove_endpoint(self, view: PathView, address_id: int) -> list[Command]:
        """Withdraw an endpoint and close its subflows. Raises KeyError if there is none."""
        for endpoint in self.endpoints:
            if endpoint.address_id == address_id:
                break
        else:
            raise KeyError(address_id)
        self.endpoints.remove(endpoint)
        return self._withdraw(view, endpoint)

    def on_priority_changed(self, view: PathView, local: bytes, backup: bool) -> list[Command]:
        """Change the endpoints of the address, and the subflows from it."""
        for place, endpoint in enumerate(self.endpoints):
            if endpoint.address == local:
                self.endpoints[place] = with_priority(endpoint, backup)
        return super().on_priority_changed(view, local, backup)

    def is_backup(self, local: bytes) -> bool:
        """Say whether an endpoint has the address and the flag."""
        return any(
            endpoint.address == local and EndpointFlag.BACKUP in endpoint.flags
            for endpoint in self.endpoints
        )

    def from_routing(self, view: PathView, remote: RemoteAddress) -> list[Command]:
        """Open a subflow to an announced address from the address that routing chooses."""
        return [OpenSubflow(0, b"", remote)]

    def may_connect(self, view: PathView, remote: RemoteAddress) -> bool:
        """Say whether subflows to an address are worth a try: here nobody knows better."""
        return True

    def _check_new(self, endpoint: Endpoint) -> None:
        if len(self.endpoints) >= MOST_ENDPOINTS:
            raise ValueError(f"expected at most {MOST_ENDPOINTS} endpoints")
        for other in self.endpoints:
            if other.address_id == endpoint.address_id:
                raise ValueError(f"endpoint id {endpoint.address_id} is given twice")
            if other.address == endpoint.address and other.port == endpoint.port:
                raise ValueError(
                    f"endpoints {other.address_id} and {endpoint.address_id} have one address"
                )

    def _withdraw(self, view: PathView, endpoint: Endpoint) -> list[Command]:
        self._used.discard(endpoint.address_id)
        address_id = local_id(view, endpoint)
        commands: list[Command] = [RemoveAddress(address_id)]
        for subflow in view.subflows:
            if subflow.local_id == address_id:
                commands.append(CloseSubflow(subflow.subflow_id))
        return commands

    def _room(self, view: PathView) -> int:
        return self.limits.subflows - sum(1 for subflow in view.subflows if subflow.joined)

    def _use_announced(
        self, view: PathView, remote: RemoteAddress, opening: int = 0
    ) -> list[Command]:
        """Open subflows to an announced address; ``opening`` are about to be opened besides.

        The kernel looks at the limits after it has opened one (fill_local_addresses_vec).
        """
        denied = self._subflows_for_denied(view)
        if not (self._accepts or denied) or _reaches(view, remote):
            return []
        if not self.may_connect(view, remote):
            return []
        room = self._room(view) - opening
        commands = self._open_to(view, remote)[: max(room, 0 if denied else 1)]
        if commands and remote.address_id != 0:
            self._accepted += 1
            self._accepts = self._accepted < self.limits.add_addr_accepted and len(commands) < room
        return commands

    def _subflows_for_denied(self, view: PathView) -> bool:
        """Say whether announced addresses may be used from plain subflow endpoints.

        A client whose peer denies joins to the initial address has no other use for them (6.18,
        "usable client side with C-flag").
        """
        return view.peer_denies_initial and any(
            EndpointFlag.SUBFLOW in endpoint.flags for endpoint in self.endpoints
        )

    def _use_endpoints(self, view: PathView, opening: int = 0) -> list[Command]:
        """Announce and open from what was not used yet (the kernel marks it used by trying).

        ``opening`` subflows are about to be opened besides.
        """
        commands: list[Command] = []
        room = self._room(view) - opening
        unused = [one for one in self._usable(view) if one.address_id not in self._used]
        for endpoint in unused:
            if EndpointFlag.SIGNAL in endpoint.flags:
                self._used.add(endpoint.address_id)
                address_id = local_id(view, endpoint)
                commands.append(AnnounceAddress(address_id, endpoint.address, endpoint.port))
        if self._subflows_for_denied(view):
            return commands
        for endpoint in unused:
            if EndpointFlag.SUBFLOW in endpoint.flags and room > 0:
                self._used.add(endpoint.address_id)
                opened = self._open_from(view, endpoint)[:room]
                room -= len(opened)
                commands += opened
        return commands

    def _usable(self, view: PathView) -> list[Endpoint]:
        """Return the endpoints that may be used now: here all, whatever their links do."""
        return self.endpoints

    def _open_from(self, view: PathView, endpoint: Endpoint) -> list[Command]:
        """Open from ``endpoint`` to the initial address, or as fullmesh to all in use."""
        remotes = [view.initial_remote]
        if EndpointFlag.FULLMESH in endpoint.flags:
            seen = {view.initial_remote.address_id}
            for subflow in view.subflows:
                if subflow.remote_id not in seen:
                    seen.add(subflow.remote_id)
                    remotes.append(subflow.remote)
        return [
            open_command(view, endpoint, remote)
            for remote in remotes
            if len(remote.address) == len(endpoint.address)
            and not (remote.address_id == 0 and view.peer_denies_initial)
            and self.may_connect(view, remote)
            and not _connects(view, local_id(view, endpoint), remote.address_id)
        ]

    def _open_to(self, view: PathView, remote: RemoteAddress) -> list[Command]:
        family = len(remote.address)
        same = [endpoint for endpoint in self._usable(view) if len(endpoint.address) == family]
        if self._has(EndpointFlag.FULLMESH):
            chosen = [one for one in same if EndpointFlag.FULLMESH in one.flags]
            if self._subflows_for_denied(view):
                self._used.update(one.address_id for one in chosen)
            return [open_command(view, endpoint, remote) for endpoint in chosen]
        flag = EndpointFlag.LAMINAR
        if not self._has(flag) and self._subflows_for_denied(view):
            flag = EndpointFlag.SUBFLOW
        elif not self._has(flag):
            return self.from_routing(view, remote)
        unused = [one for one in same if flag in one.flags and one.address_id not in self._used]
        if flag is EndpointFlag.LAMINAR:
            unused = unused[:1]
        self._used.update(one.address_id for one in unused)
        return [open_command(view, endpoint, remote) for endpoint in unused]

    def _has(self, flag: EndpointFlag) -> bool:
        return any(flag in endpoint.flags for endpoint in self.endpoints)


def local_id(view: PathView, endpoint: Endpoint) -> int:
    """Return the identifier of the endpoint in this connection: 0 for the initial address."""
    initial = endpoint.address == view.initial_local and not endpoint.port
    return 0 if initial else endpoint.address_id


def with_priority(endpoint: Endpoint, backup: bool) -> Endpoint:
    """Return the endpoint as a backup, or as a regular one."""
    flags = endpoint.flags & ~EndpointFlag.BACKUP
    return replace(endpoint, flags=flags | EndpointFlag.BACKUP if backup else flags)


def open_command(view: PathView, endpoint: Endpoint, remote: RemoteAddress) -> OpenSubflow:
    """Return the command that opens a subflow from the endpoint with its flags."""
    backup = EndpointFlag.BACKUP in endpoint.flags
    return OpenSubflow(local_id(view, endpoint), endpoint.address, remote, backup=backup)


def _connects(view: PathView, local: int, remote: int) -> bool:
    return any(path.local_id == local and path.remote_id == remote for path in view.subflows)


def _reaches(view: PathView, remote: RemoteAddress) -> bool:
    """Say whether a subflow to the address exists, and to the port if one was announced."""
    any_port = remote.port == view.initial_remote.port
    return any(
        path.remote_address == remote.address and (any_port or path.remote_port == remote.port)
        for path in view.subflows
    )

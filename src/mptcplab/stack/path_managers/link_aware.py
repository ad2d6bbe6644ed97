"""Linux's endpoints, with an eye on the links."""

from __future__ import annotations

from mptcplab.stack.path_managers.base import (
    CloseSubflow,
    Command,
    LocalAddress,
    OpenSubflow,
    PathView,
    RemoteAddress,
    SubflowPath,
)
from mptcplab.stack.path_managers.endpoints import Endpoint, Endpoints, Limits, open_command
from mptcplab.stack.path_managers.retries import Retries


class LinkAwareEndpoints(Endpoints):
    """Endpoints withdrawn while their link is down and used again when it is up.

    What an operator does by hand, ``ip mptcp endpoint del`` and ``add``, when a link goes and
    returns: the subflow comes back with the link instead of at its next retransmission timeout.
    Subflows that fail while their link is up are tried again as ``retries`` says.
    """

    def __init__(
        self, endpoints: list[Endpoint], limits: Limits, retries: Retries | None = None
    ) -> None:
        """Take what ``Endpoints`` takes, and the policy for failed subflows."""
        super().__init__(endpoints, limits)
        self.retries = retries or Retries()
        self._closed_with_link: list[tuple[bytes, RemoteAddress]] = []
        self._removed: set[bytes] = set()
        """Addresses whose endpoints were removed: their subflows are gone for good."""

    def add_endpoint(self, view: PathView, endpoint: Endpoint) -> list[Command]:
        """Use a new endpoint at once, but for one whose link is down."""
        self._removed.discard(endpoint.address)
        return super().add_endpoint(view, endpoint)

    def remove_endpoint(self, view: PathView, address_id: int) -> list[Command]:
        """Withdraw an endpoint and close its subflows, which are not opened again."""
        self._removed |= {one.address for one in self.endpoints if one.address_id == address_id}
        return super().remove_endpoint(view, address_id)

    def on_local_up(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Open again what was closed with the link, and use the endpoints of the address."""
        self.retries.forget_local(local.address)
        if local.address in self._removed:
            self._closed_with_link = [
                path for path in self._closed_with_link if path[0] != local.address
            ]
        commands: list[Command] = []
        for address, remote in self._closed_with_link:
            if address == local.address and not view.has_path(address, remote):
                commands.append(self._open_again(view, address, remote))
        self._closed_with_link = [
            path for path in self._closed_with_link if path[0] != local.address
        ]
        commands = commands[: max(self._room(view), 0)]
        return commands + self._use_endpoints(view, opening=len(commands))

    def on_local_down(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Withdraw the endpoints of the address and close all subflows from it."""
        self.retries.forget_local(local.address)
        commands: list[Command] = []
        for endpoint in self.endpoints:
            if endpoint.address == local.address:
                commands += self._withdraw(view, endpoint)
        for path in view.subflows:
            if path.local_address == local.address:
                if path.opened_by_us:
                    self._closed_with_link.append((path.local_address, path.remote))
                if CloseSubflow(path.subflow_id) not in commands:
                    commands.append(CloseSubflow(path.subflow_id))
        return commands

    def on_remote_removed(self, view: PathView, address_id: int) -> list[Command]:
        """Close the subflows to the address and stop trying."""
        self.retries.forget_remote(address_id)
        return super().on_remote_removed(view, address_id)

    def on_subflow_established(self, view: PathView, path: SubflowPath) -> list[Command]:
        """Start the count of failures anew."""
        self.retries.note_success((path.local_address, path.remote))
        return super().on_subflow_established(view, path)

    def on_subflow_closed(self, view: PathView, path: SubflowPath, failed: bool) -> list[Command]:
        """Plan the next attempt if it failed, was ours and its link is up."""
        up = any(one.up and one.address == path.local_address for one in view.local_addresses)
        gone = path.local_address in self._removed
        if failed and up and path.opened_by_us and not gone:
            self.retries.note_failure((path.local_address, path.remote), view.now_ns)
        return super().on_subflow_closed(view, path, failed)

    def deadline_ns(self) -> int | None:
        """Return when a failed path is tried again."""
        return self.retries.deadline_ns()

    def on_timeout(self, view: PathView) -> list[Command]:
        """Try the paths that are due, within the limits."""
        commands: list[Command] = []
        for address, remote in self.retries.take_due(view.now_ns):
            known = remote.address_id == 0 or any(
                one.address_id == remote.address_id for one in view.remote_addresses
            )
            if known and not view.has_path(address, remote):
                commands.append(self._open_again(view, address, remote))
        return commands[: max(self._room(view), 0)]

    def _open_again(self, view: PathView, address: bytes, remote: RemoteAddress) -> Command:
        for endpoint in self.endpoints:
            if endpoint.address == address:
                self._used.add(endpoint.address_id)
                return open_command(view, endpoint, remote)
        for local in view.local_addresses:
            if local.address == address:
                return OpenSubflow(view.local_id(local), address, remote)
        return OpenSubflow(0, b"", remote)

    def _usable(self, view: PathView) -> list[Endpoint]:
        down = {one.address for one in view.local_addresses if not one.up}
        return [endpoint for endpoint in self.endpoints if endpoint.address not in down]

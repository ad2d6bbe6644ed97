"""What every link driver does, and what it counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.network.topology import Channel

DIRECTIONS: Final = ("forward", "backward")


@dataclass(frozen=True, slots=True)
class Tagging:
    """What makes an end an 802.1Q VLAN: its tag, and both ends of its trunk, by index."""

    tag: int
    near: int
    """The NIC, in the end's namespace."""
    far: int
    """Its other end, in the wire."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where a link's end goes: the interface it makes, in a host's or a switch's namespace.

    Without ``tagging`` the interface has a wire to itself; without ``offload`` it neither hands
    over nor takes frames longer than a packet.
    """

    namespace: NetNamespace
    interface: str
    mtu: int
    tagging: Tagging | None = None
    offload: bool = True


@dataclass(frozen=True, slots=True)
class LinkReading:
    """What a link had counted in one direction at ``at_ns`` (monotonic), packets as on the wire.

    ``tx_*`` left the queue onto the wire; ``queue_*`` waits now; None is what a driver cannot tell.
    """

    at_ns: int
    tx_bytes: int
    tx_packets: int
    queue_bytes: int | None = None
    queue_packets: int | None = None
    queue_peak_bytes: int | None = None
    drops_queue: int | None = None
    marks: int | None = None
    drops_loss: int | None = None
    drops_down: int | None = None
    duplicates: int | None = None
    corrupted: int | None = None


class LinkDriver(ABC):
    """One link, carried.  Every method may raise OSError, with what the kernel refused."""

    name: str
    """"kernel", "netem" or "tap"."""

    @abstractmethod
    def start(self) -> None:
        """Let the link carry frames, now that the interfaces at its ends are there."""

    @abstractmethod
    def set_carrier(self, up: bool) -> None:
        """Plug the cable in, or pull it: both ends lose carrier, what is under way is lost."""

    @abstractmethod
    def configure(self, direction: str, channel: Channel) -> None:
        """Change one direction in place; ValueError for what the driver cannot do."""

    @abstractmethod
    def configured(self, direction: str) -> Channel:
        """Return one direction as whatever carries it says that it is set, not as it was asked."""

    @abstractmethod
    def readings(self) -> dict[str, LinkReading]:
        """Return the counters of both directions."""

    def interrupt(self) -> None:  # noqa: B027 - most drivers have nothing to wait for
        """Begin to end, without waiting; :meth:`close` follows."""

    @abstractmethod
    def close(self) -> None:
        """End what carries the link."""

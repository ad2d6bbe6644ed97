"""What is said of a host: for each pair of addresses whether a subflow comes, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mptcplab.hosts.facts import Address, Probe


class Step(StrEnum):
    """Where a join gets stuck: the steps of its life, in their order."""

    SOCKET = "socket"
    """The program's socket speaks MPTCP."""
    CAPABLE = "MP_CAPABLE"
    """The peer answers with it."""
    PATH_MANAGER = "path manager"
    """It tries to join from this address, to that one."""
    LIMITS = "limits"
    ADDRESS = "address"
    """It is this host's, and usable."""
    ROUTE = "route"
    SYN = "SYN"
    """It leaves this host."""
    SYN_ACK = "SYN/ACK"
    """It comes, with MP_JOIN."""
    ACK = "ACK"
    """The peer accepts it."""


ORDER: Final = tuple(Step)


class Outcome(StrEnum):
    """What becomes of a pair of addresses."""

    OPENS_FIRST = "opens first"
    WILL_JOIN = "will join"
    JOINED = "joined"
    WILL_NOT = "will not"
    FAILED = "tried and failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Fix:
    """A command that mends something: on this host, or on the "peer".

    A word in capitals in a command that is not ``complete`` stands for what is not known here.
    """

    command: str
    on: str = "here"
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a subflow from coming, at which step, how that is known, and what to do."""

    code: str
    step: Step
    why: str
    remedy: str
    fixes: tuple[Fix, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A pair of addresses: what becomes of it, and all that is in its way, in a join's order.

    ``remote`` None stands for an address that the peer announced, and that was not heard.
    """

    local: Address | None
    interface: str
    remote: Address | None
    outcome: Outcome
    obstacles: tuple[Obstacle, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something beside the rows that a reader should know."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Count:
    """Of one IP version: how many local addresses should carry a subflow, and how many do or would.

    ``subflows`` is None where that is not known.
    """

    version: int
    expected: int
    subflows: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that is said of a host.

    ``expected`` are the local addresses that could carry a subflow, one of each interface, and
    those that are meant to: that endpoints name, or that an announced address is a neighbour of.
    ``counts`` compares their number with that of the subflows.
    """

    rows: tuple[Row, ...]
    general: tuple[Obstacle, ...]
    """What is in the way of every join."""
    serving: tuple[Obstacle, ...]
    """What would be in the way of peers that connect to this host."""
    remarks: tuple[Remark, ...]
    expected: tuple[Address, ...]
    counts: tuple[Count, ...]
    probe: Probe | None
    unread: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether there are as many subflows as such addresses."""
        return bool(self.counts) and all(
            each.subflows is not None and each.subflows >= each.expected for each in self.counts
        )

    @property
    def subflows(self) -> int | None:
        """How many subflows stood at the end of a probe, or would come; None where not known."""
        known = [each.subflows for each in self.counts if each.subflows is not None]
        return sum(known) if len(known) == len(self.counts) else None

    @property
    def healthy(self) -> bool:
        """Whether there are enough, and nothing is wrong with any of them."""
        in_the_way = self.general or any(row.obstacles for row in self.rows)
        return self.enough and not in_the_way

    @property
    def fixes(self) -> tuple[Fix, ...]:
        """The commands that would mend what is in the way, each once, in a join's order."""
        obstacles = [*self.general, *(o for row in self.rows for o in row.obstacles)]
        if self.probe is None:
            obstacles += self.serving
        obstacles.sort(key=lambda obstacle: ORDER.index(obstacle.step))
        return tuple(dict.fromkeys(fix for obstacle in obstacles for fix in obstacle.fixes))

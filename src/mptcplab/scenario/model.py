"""A scenario, resolved: every unit turned into integers, every name found, every default filled in.

Testbeds take these objects and ask nothing more of the file they came from.  Times are nanoseconds
from the start of the run, already scaled by ``--time-scale`` or ``--duration``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from mptcplab.network.topology import Topology


@dataclass(frozen=True, slots=True)
class Tunables:
    """What the report set with sysctl, and what today's kernels add, for one host.

    ``enabled``, ``checksum``, ``mss``, ``ndiffports`` and ``debug`` mean what section 3.2.2 of the
    report says: ``ndiffports`` 1 makes a full mesh of the addresses, 0 leaves the initial subflow
    alone, n > 1 opens n subflows on the initial address pair.  ``mss`` is the value of the MSS
    option (RFC 9293 section 3.7.1), None leaves it to the MTU.  None elsewhere leaves the stack's
    own default.

    ``path_manager`` is "kernel" (endpoints, blind to link state, as upstream) or "link-aware" (the
    testbed re-adds an endpoint when its link returns).  Buffers are what autotuning may reach.
    """

    enabled: bool = True
    checksum: bool = False
    mss: int | None = None
    ndiffports: int = 1
    debug: bool = False
    path_manager: str = "link-aware"
    scheduler: str = "default"
    receive_buffer_max_bytes: int | None = None
    send_buffer_max_bytes: int | None = None
    rto_max_ms: int | None = None
    retries2: int | None = None
    stale_loss_cnt: int | None = None
    close_timeout_s: int | None = None
    add_addr_timeout_s: int | None = None
    sysctls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """Data from one host to another.

    ``source`` sends, ``destination`` receives and listens; ``client`` (one of the two) opens the
    connection.  ``links`` names the links it may use, the first one carrying the initial subflow.
    ``stop_ns`` None runs to the end; ``size_bytes`` ends it sooner.  Buffers are what the sockets
    get (what getsockopt would return); None leaves them to autotuning.  ``connections`` run in
    parallel and are named ``NAME`` or ``NAME/1``, ``NAME/2``...  ``application`` is "bulk" (checks
    every byte), "iperf3" or "striped" (parallel TCP over the interfaces, one file).
    """

    name: str
    source: str
    destination: str
    protocol: str = "mptcp"
    application: str = "bulk"
    connections: int = 1
    start_ns: int = 0
    stop_ns: int | None = None
    size_bytes: int | None = None
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None
    write_bytes: int = 65536
    congestion: str = "cubic"
    links: tuple[str, ...] = ()
    client: str = ""
    family: int | None = None  # 4 or 6 for the initial subflow; None takes the first path's


@dataclass(frozen=True, slots=True)
class Action:
    """One line of the timeline: at ``at_ns``, do ``verb`` to ``target``.

    ``verb`` is "up" or "down" (a link, or "HOST:NIC"), "set" (a link's rate, delay, jitter or loss,
    in ``changes``), "start" or "stop" (a flow).  ``changes`` holds (key, value) pairs under the
    field names of :class:`mptcplab.network.topology.Channel`; ``direction`` is "both", "forward" or
    "backward".  ``label`` is what figures print.
    """

    at_ns: int
    verb: str
    target: str
    target_kind: str  # "link", "nic" or "flow"
    changes: tuple[tuple[str, int | float], ...] = ()
    direction: str = "both"
    label: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A value that the 2012 report measured, and where it says so.

    ``stage`` counts the stretches between timeline actions from 0; None is the whole run.  ``of``
    is "total", a flow's name or a link's name.
    """

    value_bps: int
    source: str
    stage: int | None = None
    of: str = "total"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What this run's verdict holds the result against: ``of`` as in :class:`Measured`.

    The verdict passes when goodput, after the stage's first ``settle_ns``, lies within
    ``tolerance`` (a fraction) of ``value_bps``, or at least reaches it where ``at_least`` is set.
    """

    value_bps: int
    tolerance: float = 0.05
    stage: int | None = None
    of: str = "total"
    at_least: bool = False
    settle_ns: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What the 2012 report says of the experiment."""

    section: str = ""
    figures: tuple[int, ...] = ()
    measured: tuple[Measured, ...] = ()
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a testbed needs for one run."""

    name: str
    title: str
    question: str
    duration_ns: int
    topology: Topology
    flows: tuple[Flow, ...]
    timeline: tuple[Action, ...] = ()
    tunables: dict[str, Tunables] = field(default_factory=dict)  # by host
    report: Report = Report()
    expectations: tuple[Expectation, ...] = ()
    interval_ns: int = 1_000_000_000
    time_scale: float = 1.0
    seed: int = 1
    source: str = ""  # the file it was read from
    overrides: tuple[str, ...] = ()  # the --set arguments that were applied

    def stages(self) -> tuple[tuple[int, int], ...]:
        """Return (start_ns, end_ns) of each stretch between distinct timeline instants."""
        cuts = sorted({0, self.duration_ns, *(action.at_ns for action in self.timeline)})
        cuts = [cut for cut in cuts if 0 <= cut <= self.duration_ns]
        return tuple(pairwise(cuts))

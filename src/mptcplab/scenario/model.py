"""A resolved scenario: quantities in integers, names checked, defaults filled in.

Testbeds take these objects and need nothing else from the file.  Times are nanoseconds
from the start of the run, already scaled by ``--time-scale`` or ``--duration``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from mptcplab.applications.workloads import GridFtp, Workload
from mptcplab.network.topology import Address, InterfaceEnd, Path, Topology
from mptcplab.scenario.endpoints import HostEndpoints, opened_by_client, opened_by_server

KERNEL_SCHEDULERS = ("default", "linux-default", "2012")
"""Values of ``scheduler`` with which a kernel uses its default: that itself, our implementation of
it, and the one for simulation alone."""


def is_bpf_object(congestion: str) -> bool:
    """Return whether a congestion control is named as the file of a BPF object."""
    return congestion.endswith(".o")


@dataclass(frozen=True, slots=True)
class Tunables:
    """Settings of one host's stack: the report's sysctls and some of later kernels.

    ``enabled``, ``checksum``, ``mss``, ``ndiffports`` and ``debug`` are as in section 3.2.2 of the
    report: ``ndiffports`` 1 makes a full mesh of the addresses, 0 leaves the initial subflow
    alone, n > 1 opens n subflows on the initial address pair.  ``mss`` is the value of the MSS
    option (RFC 9293 section 3.7.1), None leaves it to the MTU.  Elsewhere
    None is the stack's default.  ``version`` is MPTCP's: 1 (RFC 8684) or 0 (RFC 6824).

    ``path_manager`` is "kernel" (endpoints that do not follow the state of links, as upstream) or
    "link-aware" (the testbed adds an endpoint again when its link comes back).  Buffers are the
    largest that autotuning may choose.  ``ecn`` True asks for ECN, False refuses it, None grants it
    to who asks (RFC 3168; tcp_ecn 1, 0 and 2).
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
    version: int = 1
    ecn: bool | None = None
    sysctls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """Data from one host to another, or an application between them.

    ``source`` sends, ``destination`` receives and listens; ``client`` (one of the two) opens the
    connection.  ``links`` are those it may use; the first one carries the initial subflow.  With
    ``stop_ns`` None it runs to the end; ``size_bytes`` ends it sooner.  Buffers are those of the
    sockets, as getsockopt returns them; None leaves them to autotuning.  ``connections`` run in
    parallel and are named ``NAME`` or ``NAME/1``, ``NAME/2``...  ``application`` is "bulk",
    "iperf3" or "striped" (one file over parallel TCP connections on all links), or one with a
    ``workload``.  With rates, the applications write and read that much on each connection,
    ``write_bytes`` at a time.

    With a ``workload``, ``source`` is the client, which opens the connections and asks, and
    ``destination`` answers; ``protocol`` may also be "udp", or "" for a command.  GridFTP's data
    connections are opened by whoever sends.

    With protocol "sctp" a connection is an association over the addresses of all paths; ``cmt``
    lets it send on all of them at once, and ``sctp`` has settings by libusrsctp's names, without
    "sctp_".
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
    verify: bool = True  # the receiver checks every byte, where there are bytes
    write_rate_bps: int | None = None
    read_rate_bps: int | None = None
    fast_open: bool = False  # TCP Fast Open (RFC 7413) for connections after the first
    workload: Workload | None = None  # of the applications that the testbeds themselves are not
    cmt: bool = False
    sctp: tuple[tuple[str, int], ...] = ()

    @property
    def is_striped(self) -> bool:
        """Whether it has TCP connections of their own on all its paths."""
        striped = isinstance(self.workload, GridFtp) and self.workload.striped
        return striped or self.application == "striped"


Changes = tuple[tuple[str, Any], ...]
"""Fields of a :class:`mptcplab.network.topology.Channel` that change, and their new values."""


@dataclass(frozen=True, slots=True)
class Action:
    """One line of the timeline: at ``at_ns``, do ``verb`` to ``target``.

    ``verb`` is "up" or "down" (a link, or "HOST:NIC"), "set" (values of a link, in ``changes``),
    "start" or "stop" (a flow), "set_priority" ("HOST:INTERFACE", with ``changes`` for its
    "backup"), "add_address" or "remove_address" ("HOST:NAME", of one of the host's endpoints),
    "enable" or "disable" (a middlebox).  ``changes`` holds (key, value) pairs, of a link under the
    field names of :class:`mptcplab.network.topology.Channel`; ``direction`` is "both", "forward" or
    "backward".  ``label`` is the label in figures. What is ``repeated`` begins no stage.

    "start" and "stop" are for stages and figures only: the flow's ``start_ns`` and ``stop_ns`` have
    the same times, and testbeds act on those.
    """

    at_ns: int
    verb: str
    target: str
    target_kind: str  # "link", "nic", "flow", "endpoint" or "middlebox"
    changes: Changes = ()
    direction: str = "both"
    label: str = ""
    repeated: bool = False

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions of its link that it means."""
        return ("forward", "backward") if self.direction == "both" else (self.direction,)

    @property
    def host(self) -> str | None:
        """The host that it is done to, None for links and flows."""
        return self.target.partition(":")[0] if self.target_kind in ("nic", "endpoint") else None


@dataclass(frozen=True, slots=True)
class Measured:
    """A value that the 2012 report gives, and where the report has it.

    ``stage`` counts the stages between timeline actions from 0; None is the whole run.  ``of``
    is "total", a flow's name or a link's name.  ``kind`` is "measured", "derived" (worked out from
    what the text says, as ``note`` explains) or "capacity" (what the links could carry, such as
    "Max Throughput" in Tables 2 and 3; nobody measured it).
    """

    value_bps: int
    source: str
    stage: int | None = None
    of: str = "total"
    note: str = ""
    kind: str = "measured"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the 2012 report observed where it gives no value; ``stage`` as in :class:`Measured`."""

    text: str
    source: str
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the verdict expects of a run; ``of`` is as in :class:`Measured`.

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
class LatencyExpectation:
    """The most time that a flow's requests or messages may take, at a percentile."""

    most_ns: int
    of: str
    percentile: float = 95.0
    stage: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What the 2012 report says about the experiment."""

    section: str = ""
    figures: tuple[int, ...] = ()
    measured: tuple[Measured, ...] = ()
    summary: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One variant of a scenario, which loading it with ``overrides`` added gives.

    ``x`` is its position on the sweep's axis; ``measured`` and ``figures`` are the report's values
    and figures of this run; ``testbed`` is the one that can run it, "" where either can;
    ``inspected`` pairs figures that follow from its captures ("windows") with the report's.
    """

    label: str
    overrides: tuple[str, ...]
    x: float
    measured: tuple[Measured, ...] = ()
    figures: tuple[int, ...] = ()
    testbed: str = ""
    inspected: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Sweep:
    """Variants of a scenario for one figure; ``axis`` is the label of its axis, with the unit.

    ``figures`` are the report's figures of the whole sweep.  ``over`` and ``zipped`` pair keys
    with the values they take, as texts for ``--set``: each with each, and side by side.
    ``repetitions`` and ``settle_ns`` hold in place of the scenario's, where they are not None;
    ``precision`` is how narrow intervals are to become, as a part of the mean; ``metrics`` are the
    names of what is summed up, none for all.
    """

    axis: str = ""
    points: tuple[SweepPoint, ...] = ()
    figures: tuple[int, ...] = ()
    over: tuple[tuple[str, tuple[str, ...]], ...] = ()
    zipped: tuple[tuple[str, tuple[str, ...]], ...] = ()
    repetitions: int | None = None
    precision: float | None = None
    settle_ns: int | None = None
    metrics: tuple[str, ...] = ()


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
    latency_expectations: tuple[LatencyExpectation, ...] = ()
    interval_ns: int = 1_000_000_000
    time_scale: float = 1.0
    seed: int = 1
    source: str = ""  # the file it was read from
    overrides: tuple[str, ...] = ()  # the --set arguments that were applied
    repetitions: int = 1  # runs of each variant, with seeds seed, seed + 1, ...
    settle_ns: int | None = None  # start-up that goodput leaves out; None leaves it to the command
    start_jitter_ns: int = 0  # by which flows start later, at random
    processing_jitter_ns: int | None = 0  # of simulated hosts; None follows from the links
    captures: tuple[InterfaceEnd, ...] = ()
    snaplen_bytes: int = 128
    sweep: Sweep = Sweep()
    trains: bool = True  # a simulation may follow several packets as one
    endpoints: dict[str, HostEndpoints] = field(default_factory=dict)
    """By host, all of them, where the file gives any host endpoints or limits; else empty."""
    lesson: str = ""  # what one learns from it
    ssh: dict[str, str] = field(default_factory=dict)  # where hosts are that are real machines

    def __post_init__(self) -> None:
        """Let the hashes of routers and fabrics have the scenario's seed, whichever it is."""
        hashed = self.topology.routers or self.topology.fabric
        if hashed and self.topology.seed != self.seed:
            object.__setattr__(self, "topology", replace(self.topology, seed=self.seed))

    def stages(self) -> tuple[tuple[int, int], ...]:
        """Return (start_ns, end_ns) of each stretch between distinct timeline instants.

        Actions that repeat do not count.
        """
        return self._between(action for action in self.timeline if not action.repeated)

    def steady_stretches(self) -> tuple[tuple[int, int], ...]:
        """Return (start_ns, end_ns) of each stretch in which no action is done."""
        return self._between(self.timeline)

    def _between(self, actions: Iterable[Action]) -> tuple[tuple[int, int], ...]:
        cuts = sorted({0, self.duration_ns, *(action.at_ns for action in actions)})
        cuts = [cut for cut in cuts if 0 <= cut <= self.duration_ns]
        return tuple(pairwise(cuts))

    def host_pairs(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs of hosts that flows join, each in both orders."""
        pairs = [(flow.source, flow.destination) for flow in self.flows]
        return tuple(dict.fromkeys([*pairs, *((there, here) for here, there in pairs)]))

    def paths(self, flow: Flow) -> tuple[Path, ...]:
        """Return the paths a flow may use, from its client's side, the initial subflow's first.

        A path counts when the flow names every one of its links; the order is that of
        ``flow.links``, and within one link the flow's ``family`` goes first. From one link, a path
        within a network goes before those through routers.
        """
        server = flow.destination if flow.client == flow.source else flow.source
        links = set(flow.links)
        paths = [
            path
            for path in self.topology.paths(flow.client, server, multipath=False)
            if path.links  # a path through a switch alone is not measured
            and links.issuperset(path.possible)
            and (not self._joins_paths(flow) or self._multipath(path))
            and (flow.protocol != "sctp" or path.local_address.version == 4)
        ]
        rank = {link: position for position, link in enumerate(flow.links)}

        def order(path: Path) -> tuple[tuple[int, ...], bool, tuple[int, ...], bool]:
            counted = self.topology.own_links(path)
            position = tuple(rank[link] for link in counted)
            other_family = path.local_address.version != (flow.family or 4)
            return position[:1], path.routed, position, other_family

        paths.sort(key=order)
        if flow.family is not None:  # the initial subflow is of that family, on whatever link
            paths.sort(key=lambda path: path.local_address.version != flow.family)
            paths[1:] = sorted(paths[1:], key=order)
        return tuple(paths)

    def expected_subflows(self, flow: Flow) -> tuple[Path, ...]:
        """Return the path of each subflow that one connection of a flow should come to have.

        All links taken as up; the initial subflow is the first.  One for plain TCP, also where the
        flow is striped: its connections take the paths of :meth:`paths` in turn. Endpoints are
        those of the start.  For SCTP, all that its association has.
        """
        paths = self.paths(flow)
        if flow.protocol == "sctp":
            return paths
        if not paths or flow.protocol != "mptcp" or not self._mptcp(flow):
            return paths[:1]
        if self.endpoints:
            return (paths[0], *self._opened(paths[0]))
        ndiffports = self.tunables.get(flow.client, Tunables()).ndiffports
        if ndiffports == 1:
            return paths
        return paths[:1] * max(1, ndiffports)

    def is_backup(self, path: Path) -> bool:
        """Say whether a subflow on a path is a backup when the run starts."""
        return path.local_address.ip in self.backups(
            path.local.host
        ) or path.remote_address.ip in self.backups(path.remote.host)

    def backups(self, host: str) -> frozenset[Address]:
        """Return a host's addresses from which subflows are backups when the run starts."""
        if self.endpoints:
            return self.endpoints[host].backups()
        return frozenset(
            address.ip
            for interface in self.topology.host(host).interfaces
            if interface.backup
            for address in interface.addresses
        )

    def addresses_of(self, target: str) -> tuple[Address, ...]:
        """Return the addresses that "HOST:INTERFACE" or "HOST:ADDRESS" names."""
        host, _, name = target.partition(":")
        return tuple(
            address.ip
            for interface in self.topology.host(host).interfaces
            for address in interface.addresses
            if name in (interface.name, str(address.ip))
        )

    def _opened(self, first: Path) -> Iterator[Path]:
        """Yield the paths of the subflows that both ends' path managers open."""
        client, server = first.local.host, first.remote.host
        ends = {
            host: {
                address.ip: InterfaceEnd(host, interface.name)
                for interface in self.topology.host(host).interfaces
                for address in interface.addresses
            }
            for host in (client, server)
        }

        def source(host: str, other: str) -> Callable[[Address], Address | None]:
            return lambda remote: self.topology.source_for(host, ends[other][remote], remote)

        own, peers = self.endpoints[client], self.endpoints[server]
        initial = (first.local_address.ip, first.remote_address.ip)
        pairs = opened_by_client(own, peers, initial, source(client, server))
        back = opened_by_server(own, peers, initial[::-1], source(server, client))
        pairs += [(remote, local) for local, remote in back]
        known = {
            (path.local_address.ip, path.remote_address.ip): path
            for path in self.topology.paths(client, server)
            if path.links
        }
        allowed = min(own.subflows + 1, peers.subflows)  # the client may open one more
        yield from [known[pair] for pair in pairs if pair in known][:allowed]

    def _mptcp(self, flow: Flow) -> bool:
        ends = (flow.source, flow.destination)
        return all(self.tunables.get(host, Tunables()).enabled for host in ends)

    def _joins_paths(self, flow: Flow) -> bool:
        """Return whether one connection may use several paths."""
        return flow.protocol == "sctp" or (flow.protocol == "mptcp" and self._mptcp(flow))

    def _multipath(self, path: Path) -> bool:
        return all(self.topology.interface_at(end).multipath for end in (path.local, path.remote))

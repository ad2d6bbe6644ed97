"""What a flow's application does, as a scenario says it: sizes in bytes, times in nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from mptcplab.applications.distributions import Distribution, fixed


@dataclass(frozen=True, slots=True)
class RequestResponse:
    """Requests that are answered, in turn on each connection or as they arrive.

    Without ``arrivals``, each of the flow's connections makes a request, waits for the response,
    thinks for ``think`` and goes on. With ``arrivals`` (the times between two requests) or
    ``arrival_times`` (from the start of the flow on), requests come whether or not those before
    them are answered. Each has a connection of its own unless ``persistent``.
    """

    request: Distribution = field(default_factory=lambda: fixed(100))
    response: Distribution = field(default_factory=lambda: fixed(10_000))
    think: Distribution = field(default_factory=lambda: fixed(0))
    persistent: bool = True
    count: int | None = None
    arrivals: Distribution | None = None
    arrival_times: tuple[int, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether requests come by the clock, not after responses."""
        return self.arrivals is not None or bool(self.arrival_times)


@dataclass(frozen=True, slots=True)
class Web:
    """Pages: a document, then its objects over as many connections as the flow has."""

    request: Distribution = field(default_factory=lambda: fixed(400))
    response: Distribution = field(default_factory=lambda: fixed(30_000))
    objects: int = 20
    object_size: Distribution = field(default_factory=lambda: fixed(20_000))
    think: Distribution = field(default_factory=lambda: fixed(1_000_000_000))
    persistent: bool = True
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """Chunks of ``chunk_ns`` each, of one of the rates of ``ladder_bps``, into a playout buffer.

    Playing begins when ``startup_ns`` of video are there; the buffer holds ``playout_buffer_ns``.
    """

    chunk_ns: int
    ladder_bps: tuple[int, ...]
    playout_buffer_ns: int
    startup_ns: int
    request: Distribution = field(default_factory=lambda: fixed(400))
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages at a rate, one way, on each connection; all the time, or on and off in turn.

    Over TCP or MPTCP ("paced"), or each as one datagram ("udp").
    """

    rate_bps: int
    message: Distribution = field(default_factory=lambda: fixed(1_200))
    on: Distribution | None = None
    off: Distribution | None = None
    count: int | None = None
    datagrams: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """Programs on Linux hosts: one that runs as long as the flow, one that serves it or none."""

    command: str
    server_command: str = ""


@dataclass(frozen=True, slots=True)
class GridFtp:
    """A file moved by GridFTP: an upload by the flow's source, or a download by its destination.

    ``streams`` are the parallel data connections (``globus-url-copy -p``), of each stripe where it
    is ``striped``: a data node at each end of each path.
    """

    streams: int = 1
    striped: bool = False
    download: bool = False


Workload = RequestResponse | Web | Video | Messages | Command | GridFtp


def has_draws(workload: Workload | None) -> bool:
    """Return whether anything of a workload is drawn at random."""
    if workload is None:
        return False
    values = [getattr(workload, each.name) for each in fields(workload)]
    return any(isinstance(value, Distribution) and value.is_random for value in values)

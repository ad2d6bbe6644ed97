"""A reconstructed capture, for programs and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

from mptcplab.limits.causes import Limit
from mptcplab.trace.connections.build import build
from mptcplab.trace.connections.model import Connection, Subflow
from mptcplab.trace.connections.summary import summarise
from mptcplab.trace.files.batch import Damage
from mptcplab.trace.files.capture import Progress
from mptcplab.trace.files.opening import expanded
from mptcplab.trace.findings.events import tell
from mptcplab.trace.findings.limits import held_back
from mptcplab.trace.follow.read_pass import Reading, read


@dataclass(slots=True)
class Trace:
    """Everything in one capture, or in several merged by time."""

    paths: list[Path]
    reading: Reading
    """What the pass over the capture kept, for the modules of this package."""
    connections: list[Connection]

    @property
    def subflows(self) -> list[Subflow]:
        """The subflows of all connections."""
        return [subflow for connection in self.connections for subflow in connection.subflows]

    @property
    def limits(self) -> list[Limit]:
        """What held back each direction of each connection."""
        return [limit for connection in self.connections for limit in connection.limits]

    @property
    def packets(self) -> int:
        """How many packets the files hold."""
        return self.reading.packets

    @property
    def malformed(self) -> list[Damage]:
        """Packets that were left out, with the reason for each."""
        return self.reading.malformed

    @property
    def first_ns(self) -> int:
        """Time of the first packet, in nanoseconds since 1970."""
        return self.reading.first_ns

    @property
    def last_ns(self) -> int:
        """Time of the last packet, in nanoseconds since 1970."""
        return self.reading.last_ns

    def seconds(self, time_ns: int) -> float:
        """Return a time as seconds since the first packet."""
        return (time_ns - self.first_ns) / 1e9


Path_ = str | PathLike[str]


def open_trace(paths: Path_ | Sequence[Path_], progress: Progress | None = None) -> Trace:
    """Read a capture, or several as one, and reconstruct its MPTCP connections.

    A path may be a folder or a pattern that stands for several files, or ``-`` for standard input.
    ``progress`` is called with (bytes read, bytes in the file) from time to time.  Raises
    ``CaptureError`` for a file that cannot be read as a capture; packets that are malformed are
    left out and listed in ``malformed``.
    """
    several = [paths] if isinstance(paths, str | PathLike) else list(paths)
    files = expanded(Path(path) for path in several)
    return reconstructed(files, read(files, progress))


def reconstructed(paths: list[Path], reading: Reading) -> Trace:
    """Reconstruct the connections of what was read."""
    connections = build(reading)
    summarise(connections, reading)
    teller = partial(tell, reading=reading)
    judge = partial(held_back, resolution_ns=reading.samples.resolution_ns)
    for connection in connections:
        connection.tell, connection.judge = teller, judge
    return Trace(paths, reading, connections)

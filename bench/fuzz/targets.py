"""What is done with inputs: each target takes bytes and does with them what a command would."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.fuzz.captures import changed_capture
from bench.fuzz.changes import changed_bytes, changed_text
from bench.fuzz.coverage import ROOT

from mptcplab import trace
from mptcplab.cli.main import main as command_line
from mptcplab.report.verdict import checks, comparisons
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise
from mptcplab.results.tables import TABLES
from mptcplab.scenario import is_topology, load, load_topology
from mptcplab.scenario.describe import describe
from mptcplab.scenario.to_json import as_plain
from mptcplab.trace.connections import inference
from mptcplab.trace.files import capture as capture_file
from mptcplab.trace.files import merging, record_scan
from mptcplab.trace.files.writing import CaptureWriter
from mptcplab.trace.follow import checksums, flow_table, holes, mappings, read_pass, rtt, samples
from mptcplab.trace.output.connection_table import connection_lines
from mptcplab.trace.output.explain import event_lines, explanation
from mptcplab.trace.output.tables import tables
from mptcplab.trace.output.to_json import to_json
from mptcplab.trace.packet_filter import parse_filter
from mptcplab.trace.packets import packet_lines, write_packets
from mptcplab.wire.mptcp_decode import decode_mptcp
from mptcplab.wire.packet import decode_packet, encode_packet
from mptcplab.wire.segment import format_segment

TESTS: Final = Path(__file__).parents[2] / "tests"

SCENARIO: Final = b"""
title = "Two links"
duration = "1s"
interval = "100ms"
hosts.alice = {}
hosts.bob = {}
switches = ["s"]
timeline = [{ at = "0.5s", change = "fast", rate = "2Mb/s", label = "slower" }]
expect = [{ goodput = "3Mb/s", stage = 0 }]
report.measured = [{ value = "3Mb/s", source = "table 1" }]
[links]
fast = { between = ["alice", "bob"], rate = "3Mb/s", rtt = "10ms", queue = "1 BDP" }
slow = { between = ["alice", "s"], rate = "1Mb/s", rtt = "20ms", loss = "0.1%" }
last = { between = ["s", "bob"], rate = "1Mb/s", delay = "1ms" }
[flows]
main = { from = "alice", to = "bob", buffer = "1MB" }
short = { from = "bob", to = "alice", size = "20kB", congestion = "lia" }
"""

_FILTERS: Final = (
    "tcp.stream > 0 or dsn in 1..500 or retransmission",
    "ip.addr == 10.0.0.0/8 and tcp.flags & 0x12 or token > 5 or ipv6.src != ::1",
    "tcp.options.mptcp.sendkey and not duplicate_ack or rtt > 0 or in_flight > 5",
)
_LIMITS: Final[tuple[tuple[Any, dict[str, int]], ...]] = (
    (capture_file, {"_BLOCK_BYTES": 1024, "_FIRST_BLOCK_BYTES": 512, "BATCH_PACKETS": 5}),
    (merging, {"BATCH_PACKETS": 5}),
    (record_scan, {"_FEWEST_RECORDS": 12, "_FEWEST_SEGMENTS": 4, "_SEGMENT_RECORDS": 2}),
    (flow_table, {"MAX_FLOWS": 3}),
    (mappings, {"MAX_EXTENTS": 4, "_MAX_LATER": 2, "_MAX_LONG": 4}),
    (samples, {"MAX_ROWS": 6}),
    (checksums, {"_MOST_WAITING": 1, "_MOST_NARROW": 3, "_MOST_WRONG": 2, "_FEW": 2}),
    (holes, {"_MAX_HOLES": 2}),
    (rtt, {"_MAX_WAITING": 3}),
    (inference, {"_MAX_UNPLACED": 2, "_MOST_CARRIERS": 1, "_MOST_NEIGHBOURS": 2}),
    (read_pass, {"_MOST_NOTES": 4}),
)
"""Limits that a few packets reach: floods, captures of many blocks and batches, in small."""
_USUAL: Final[tuple[tuple[Any, dict[str, int]], ...]] = tuple(
    (module, {name: getattr(module, name) for name in small}) for module, small in _LIMITS
)


@contextlib.contextmanager
def _limits(*, small: bool) -> Iterator[None]:
    _set(_LIMITS if small else _USUAL)
    try:
        yield
    finally:
        _set(_USUAL)


def _set(limits: tuple[tuple[Any, dict[str, int]], ...]) -> None:
    for module, values in limits:
        for name, value in values.items():
            setattr(module, name, value)


def scenario_file(data: bytes, folder: Path) -> None:
    """Do what ``check`` does, as text and as JSON."""
    path = folder / "x.toml"
    path.write_bytes(data)
    if is_topology(path):
        load_topology(path)
        return
    scenario = load(path)
    describe(scenario)
    json.dumps(as_plain(scenario))


def override(data: bytes, folder: Path) -> None:
    """Apply what the first line says, as ``--set`` does, to a sound scenario."""
    path = folder / "x.toml"
    path.write_bytes(SCENARIO)
    load(path, overrides=(data.decode(errors="surrogateescape"),))


def run_metadata(data: bytes, folder: Path) -> None:
    """Do what ``show`` does with a ``run.json``, but for the figure."""
    path = _run_folder(folder)
    (path / "run.json").write_bytes(data)
    _show(path)


def run_table(data: bytes, folder: Path) -> None:
    """Do so with a table; the first byte chooses which."""
    path = _run_folder(folder)
    name = ("flows", "links")[data[0] & 1 if data else 0]
    (path / f"{name}.parquet").write_bytes(data[1:])
    _show(path)


def capture(data: bytes, folder: Path) -> None:
    """Do all that ``inspect`` does; half of all inputs meet limits that a few packets reach."""
    path = folder / "x.pcap"
    path.write_bytes(data)
    with _limits(small=bool(sum(data[-16:]) & 1)):
        opened = trace.open(path)
        to_json(opened)
        list(explanation(opened))
        list(packet_lines(opened, None))
        list(event_lines(opened, opened.connections))
        list(connection_lines(opened, "rtt"))
        if data[-1:] < b"\x20":
            _filtered(opened, path)


def _filtered(opened: trace.Trace, path: Path) -> None:
    """Do what takes longer: filters, tables, and a second file, written and read beside it."""
    for text in _FILTERS:
        list(packet_lines(opened, parse_filter(text)))
    tables(opened)
    copy = path.with_name("out.pcapng")
    write_packets(opened, parse_filter("mptcp"), CaptureWriter(copy, []))
    trace.open(copy)
    trace.open([path, copy])


def packet(data: bytes, _folder: Path) -> None:
    """Decode an IP packet; what is decoded is encoded and printed."""
    segment = decode_packet(data)
    format_segment(segment)
    encode_packet(segment)


def option(data: bytes, _folder: Path) -> None:
    """Decode an MPTCP option; what is decoded is encoded."""
    decoded = decode_mptcp(data[:40])
    decoded.encode()


def packet_filter(data: bytes, _folder: Path) -> None:
    """Parse a filter of ``inspect``."""
    parse_filter(data.decode(errors="surrogateescape"))


def arguments(data: bytes, _folder: Path) -> None:
    """Give the lines to ``check`` as its arguments."""
    words = data.decode(errors="replace").replace("\0", "").split("\n")
    with _silent(), contextlib.suppress(SystemExit):
        status = command_line(["check", *words])
        assert status in (0, 2), status


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _run_folder(folder: Path) -> Path:
    sound, path = folder.parent / "sound", folder / "run"
    if not path.exists():
        shutil.copytree(sound, path)
    return path


def _show(path: Path) -> None:
    run = Run(path)
    run.check()
    json.dumps(summarise(run))
    checks(run)
    comparisons(run)
    from mptcplab.cli.render import describe as describe_run

    describe_run(run)


def make_sound_run(folder: Path) -> Path:
    """Simulate the scenario, and return the folder of its run."""
    (folder / "sound.toml").write_bytes(SCENARIO)
    with _silent():
        status = command_line(
            ["run", str(folder / "sound.toml"), "--out", str(folder / "sound"), "--on", "simulated"]
        )
    assert status == 0
    return folder / "sound"


def _captures() -> list[bytes]:
    return [gzip.decompress(path.read_bytes()) for path in sorted(TESTS.glob("captures/*.gz"))]


def _plain(data: bytes) -> bytes:
    """Write a capture anew as a pcap file of little-endian records."""
    with tempfile.TemporaryDirectory() as name:
        read, written = Path(name, "in"), Path(name, "out.pcap")
        read.write_bytes(data)
        write_packets(trace.open(read), None, CaptureWriter(written, []))
        return written.read_bytes()


def _scenario_files(_sound: Path) -> list[bytes]:
    """Return the examples; of 128 hosts, each of which takes time while coverage is traced, 16."""
    files = sorted((ROOT / "scenario" / "data").glob("*/*.toml"))
    return [SCENARIO, *(path.read_bytes().replace(b"\nk = 8\n", b"\nk = 4\n") for path in files)]


def _tables(sound: Path) -> list[bytes]:
    read = [(sound / f"{table}.parquet").read_bytes() for table in TABLES]
    return [bytes([number & 1]) + table for number, table in enumerate(read)]


def _options(_sound: Path) -> list[bytes]:
    return [
        bytes((30, size, kind << 4)) + bytes(size - 3)
        for kind in range(9)
        for size in (3, 4, 8, 12, 16, 20, 24, 26)
    ]


_OVERRIDES: Final = [b"flows.*.buffer=2MB", b"links.fast.rate=1Gb/s", b'timeline=[{at="1ms"}]']
_TEXTS: Final = [b"subtype == join and subflow == 2", b"dsn in 1..5000", b"not (syn or fin)"]
_ARGUMENTS: Final = [
    b"A",
    b"B\n--set\nduration=1s",
    b"x.toml\n--duration\n1s\n--time-scale\n0.5",
]

Act = Callable[[bytes, Path], None]
Seeds = Callable[[Path], list[bytes]]
Change = Callable[[random.Random, bytes, list[bytes]], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """What inputs are given to, what a search starts from, and how inputs are changed."""

    act: Act
    seeds: Seeds
    change: Change


TARGETS: Final[dict[str, Target]] = {
    "scenario_file": Target(scenario_file, _scenario_files, changed_text),
    "override": Target(override, lambda _: list(_OVERRIDES), changed_text),
    "run_metadata": Target(run_metadata, lambda s: [(s / "run.json").read_bytes()], changed_text),
    "run_table": Target(run_table, _tables, changed_bytes),
    "capture_file": Target(
        capture, lambda _: [data[:6_000] for data in _captures()], changed_bytes
    ),
    "capture": Target(capture, lambda _: [_plain(data) for data in _captures()], changed_capture),
    "packet": Target(
        packet, lambda _: [data[40 + 14 : 40 + 14 + 120] for data in _captures()], changed_bytes
    ),
    "option": Target(option, _options, changed_bytes),
    "packet_filter": Target(packet_filter, lambda _: list(_TEXTS), changed_text),
    "arguments": Target(arguments, lambda _: list(_ARGUMENTS), changed_text),
}
"""``capture_file`` changes bytes of the file, ``capture`` its records and their headers."""

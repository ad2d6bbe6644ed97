"""Search for input that breaks a promise: scenario files, run folders, captures, packets.

    python -m bench.fuzz [--minutes N] [--seed N] [--out FOLDER] [--target NAME ...]

Each target takes bytes and does with them what a command would; it may refuse them with an error of
the project's own (one that has an ``exit_status``, or a WireError) and nothing else.  An input that
runs a line of the package that none before had run joins the corpus, from which inputs are changed
and mixed: words and values of TOML and JSON, numbers and lengths, bytes.  Lines are counted by
``sys.monitoring`` (Python 3.12 and later), which costs little, or by ``sys.settrace``.

An unexpected exception, a warning, more than 20 s of processor time or more than 8 GiB of address
space is a finding: the input is written to FOLDER with the traceback, once for each place in the
code.  ``--replay FILE --target NAME`` runs one again.  The same seed makes the same inputs
as long as the code is the same and each takes as long as before.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import mptcplab
from mptcplab import trace
from mptcplab.cli.main import main as command_line
from mptcplab.report.verdict import checks, comparisons
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise
from mptcplab.results.tables import TABLES
from mptcplab.scenario import is_topology, load, load_topology
from mptcplab.scenario.describe import describe
from mptcplab.scenario.to_json import as_plain
from mptcplab.trace.output.connection_table import connection_lines
from mptcplab.trace.output.explain import event_lines, explanation
from mptcplab.trace.output.to_json import to_json
from mptcplab.trace.packet_filter import parse_filter
from mptcplab.trace.packets import packet_lines
from mptcplab.wire.error import WireError
from mptcplab.wire.mptcp_decode import decode_mptcp
from mptcplab.wire.packet import decode_packet, encode_packet
from mptcplab.wire.segment import format_segment

ROOT: Final = Path(mptcplab.__file__).parent
TESTS: Final = Path(__file__).parents[1] / "tests"
LONGEST_S: Final = 20
MEMORY_BYTES: Final = 8 << 30
"""Of address space, of which threads and allocators reserve more than they use."""
MOST_BYTES: Final = 60_000

Target = Callable[[bytes, Path], None]


# Targets


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
    """Do what ``inspect`` does."""
    path = folder / "x.pcap"
    path.write_bytes(data)
    inspected(path)


def inspected(path: Path) -> trace.Trace:
    """Open a capture and have all told of it that ``inspect`` tells."""
    opened = trace.open(path)
    to_json(opened)
    list(explanation(opened))
    list(packet_lines(opened, None))
    list(event_lines(opened, opened.connections))
    list(connection_lines(opened, "rtt"))
    return opened


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


TARGETS: Final[dict[str, Target]] = {
    each.__name__: each
    for each in (
        scenario_file,
        override,
        run_metadata,
        run_table,
        capture,
        packet,
        option,
        packet_filter,
        arguments,
    )
}

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


def _make_sound_run(folder: Path) -> Path:
    (folder / "sound.toml").write_bytes(SCENARIO)
    with _silent():
        status = command_line(
            ["run", str(folder / "sound.toml"), "--out", str(folder / "sound"), "--on", "simulated"]
        )
    assert status == 0
    return folder / "sound"


def seeds(name: str, sound: Path) -> list[bytes]:
    """Return the inputs that a search of a target starts from."""
    captures = [gzip.decompress(path.read_bytes()) for path in sorted(TESTS.glob("captures/*.gz"))]
    match name:
        case "scenario_file":
            files = sorted((ROOT / "scenario" / "data").glob("*/*.toml"))
            return [SCENARIO, *(path.read_bytes() for path in files)]
        case "override":
            return [b"flows.*.buffer=2MB", b"links.fast.rate=1Gb/s", b'timeline=[{at="1ms"}]']
        case "run_metadata":
            return [(sound / "run.json").read_bytes()]
        case "run_table":
            tables = [(sound / f"{table}.parquet").read_bytes() for table in TABLES]
            return [bytes([number & 1]) + table for number, table in enumerate(tables)]
        case "capture":
            return [data[:6_000] for data in captures]
        case "packet":
            return [data[40 + 14 : 40 + 14 + 120] for data in captures]
        case "option":
            return [bytes((30, size, kind << 4)) + bytes(size - 3)
                    for kind in range(9) for size in (3, 4, 8, 12, 16, 20, 24, 26)]  # fmt: skip
        case "packet_filter":
            return [b"subtype == join and subflow == 2", b"dsn in 1..5000", b"not (syn or fin)"]
        case _:
            return [b"A", b"B\n--set\nduration=1s", b"x.toml\n--duration\n1s\n--time-scale\n0.5"]


# Changing inputs

_WORD = re.compile(rb'"(?:[^"\\\n]|\\.)*"|[\w.+-]+|[^\w\s]')
_VALUES: Final = (
    b"0", b"-1", b"1", b"1e999", b"nan", b"inf", b"true", b"null", b"[]", b"{}", b'""',
    b'"\\u0000"', b'"\\u001b[2J"', b"9" * 30, b"9" * 5000, b"0x" + b"f" * 500,
    b'"1e308Gb/s"', b'"-1s"', b'"0%"',
    b'"1 BDP"', b'"alice"', b'"alice:eth0"', b"1979-05-27T07:32:00Z", b"[" * 400, b"{a=" * 400,
    b"9223372036854775807", b"-9223372036854775808", b"4611686018427387904", b'"x:Y"', b'"../x"',
)  # fmt: skip
_INTERESTING: Final = (0, 1, 2, 3, 4, 8, 12, 20, 28, 30, 32, 40, 0x7F, 0x80, 0xFE, 0xFF)


def changed(rng: random.Random, data: bytes, corpus: list[bytes], *, is_text: bool) -> bytes:
    """Return an input made of one of the corpus, or of two."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if is_text and rng.random() < 0.8:
            data = _changed_words(rng, data, corpus)
        else:
            data = _changed_bytes(rng, data, corpus)
    return data[:MOST_BYTES]


def _changed_words(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    words = [match.span() for match in _WORD.finditer(data)]
    if not words:
        return rng.choice(_VALUES)
    start, end = rng.choice(words)
    match rng.randrange(6):
        case 0:
            return data[:start] + rng.choice(_VALUES) + data[end:]
        case 1:
            return data[:start] + data[end:]
        case 2:
            other = rng.choice(corpus)
            found = [match[0] for match in _WORD.finditer(other)] or [b"x"]
            return data[:start] + rng.choice(found) + data[end:]
        case 3:
            _, last = rng.choice(words)
            return data[:start] + data[max(start, last) :]
        case 4:
            lines = data.split(b"\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(rng.choice(corpus).split(b"\n")))
            return b"\n".join(lines)
        case _:
            lines = data.split(b"\n")
            del lines[rng.randrange(len(lines))]
            return b"\n".join(lines)


def _changed_bytes(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    out = bytearray(data)
    at = rng.randrange(len(out) + 1)
    match rng.randrange(7):
        case 0:
            out[at : at + 1] = bytes([rng.choice(_INTERESTING)])
        case 1:
            size = rng.choice((2, 4, 8))
            number = int.from_bytes(out[at : at + size], "little") + rng.choice((-1, 1, 4, 1 << 16))
            out[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        case 2:
            del out[at : at + rng.choice((1, 4, 16, 200))]
        case 3:
            out[at:at] = out[at : at + rng.choice((1, 4, 16, 200))] * rng.choice((1, 2, 50))
        case 4:
            other = rng.choice(corpus)
            there = rng.randrange(len(other) + 1)
            out[at:] = other[there:]
        case 5:
            out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\0\0\0\x80"))
        case _:
            out[at : at + 4] = rng.randbytes(rng.choice((1, 4, 8)))
    return bytes(out)


# Seeing what runs


class Coverage:
    """The lines of the package that have run."""

    def __init__(self) -> None:
        """Begin to listen, to the package's own files alone."""
        self.fresh = 0
        self._seen: set[tuple[CodeType, int]] = set()
        self._inside = str(ROOT)
        if sys.version_info >= (3, 12):
            self._listen()

    if sys.version_info >= (3, 12):

        def _listen(self) -> None:
            tool = sys.monitoring.COVERAGE_ID
            sys.monitoring.use_tool_id(tool, "mptcplab fuzz")
            event = sys.monitoring.events.LINE
            sys.monitoring.register_callback(tool, event, self._line)
            sys.monitoring.set_events(tool, event)

        def _line(self, code: CodeType, _line: int) -> Any:
            if code.co_filename.startswith(self._inside):
                self.fresh += 1
            return sys.monitoring.DISABLE  # each place is told once

        @contextlib.contextmanager
        def watching(self) -> Iterator[None]:
            """Count lines that are new."""
            self.fresh = 0
            yield

    else:

        @contextlib.contextmanager
        def watching(self) -> Iterator[None]:
            """Count lines that are new."""
            self.fresh = 0
            sys.settrace(self._call)
            try:
                yield
            finally:
                sys.settrace(None)

        def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
            return self._step if frame.f_code.co_filename.startswith(self._inside) else None

        def _step(self, frame: FrameType, _event: str, _argument: Any) -> Any:
            place = frame.f_code, frame.f_lineno
            if place not in self._seen:
                self._seen.add(place)
                self.fresh += 1
            return self._step


class TooSlowError(Exception):
    """An input took too long."""


def _too_slow(_signum: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {LONGEST_S} s of processor time")


def attempt(target: Target, data: bytes, folder: Path) -> BaseException | None:
    """Run a target; return the exception that breaks its promise, or None."""
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    try:
        target(data, folder)
    except WireError:
        return None
    except Exception as error:
        return None if hasattr(error, "exit_status") else error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


def _place(error: BaseException) -> str:
    inside = [
        f"{Path(frame.filename).name}-{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if str(ROOT) in frame.filename
    ]
    return f"{type(error).__name__}-{inside[-1] if inside else 'outside'}"


class Search:
    """A search of one target: its corpus, and what it found."""

    def __init__(self, name: str, rng: random.Random, out: Path, sound: Path) -> None:
        """Start from the target's seeds."""
        self.name = name
        self.runs = 0
        self.findings: dict[str, bytes] = {}
        self._target = TARGETS[name]
        self._rng = rng
        self._out = out
        self._corpus: list[bytes] = []
        self._seeds = seeds(name, sound)
        self._is_text = name not in ("run_table", "capture", "packet", "option")

    def step(self, coverage: Coverage, folder: Path) -> None:
        """Try one input."""
        if self._seeds:
            data = self._seeds.pop()
            self._corpus.append(data)
        else:
            # half of the time one of the latest, which led to what is new
            recent = self._corpus[-20:] if self._rng.random() < 0.5 else self._corpus
            data = changed(self._rng, self._rng.choice(recent), self._corpus, is_text=self._is_text)
        with coverage.watching():
            error = attempt(self._target, data, folder)
        self.runs += 1
        if error is not None:
            self._keep(error, data)
        elif coverage.fresh:
            self._corpus.append(data)

    @property
    def corpus(self) -> int:
        """How many inputs led to something new."""
        return len(self._corpus)

    def _keep(self, error: BaseException, data: bytes) -> None:
        place = _place(error)
        if place in self.findings and len(self.findings[place]) <= len(data):
            return
        self.findings[place] = data
        self._out.mkdir(parents=True, exist_ok=True)
        stem = self._out / f"{self.name}-{place}"
        stem.with_name(f"{stem.name}.input").write_bytes(data)
        told = "".join(traceback.format_exception(error))
        stem.with_name(f"{stem.name}.txt").write_text(told, errors="backslashreplace")


def main() -> None:
    """Search, or replay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("findings"))
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--replay", type=Path, help="run this input on the target once")
    args = parser.parse_args()
    warnings.simplefilter("error")
    signal.signal(signal.SIGVTALRM, _too_slow)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        sound = _make_sound_run(scratch)
        folder = scratch / "work"
        folder.mkdir()
        if args.replay is not None:
            TARGETS[args.target[0]](args.replay.read_bytes(), folder)
            return
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        rng = random.Random(args.seed)
        searches = [Search(each, rng, args.out, sound) for each in args.target or TARGETS]
        coverage = Coverage()
        end = time.monotonic() + 60 * args.minutes
        while time.monotonic() < end:
            for search in searches:
                turn = time.monotonic() + 2.0  # each gets as much time, not as many inputs
                while time.monotonic() < min(turn, end):
                    search.step(coverage, folder)
        for search in searches:
            print(
                f"{search.name}: {search.runs} inputs, {search.corpus} in the corpus, "
                f"{len(search.findings)} findings"
            )
    sys.exit(1 if any(search.findings for search in searches) else 0)


if __name__ == "__main__":
    main()

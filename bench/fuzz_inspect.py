"""Search for captures on which the analysis fails, guided by what code each new input reaches.

    python -m bench.fuzz_inspect [--minutes N] [--out FOLDER] [--seed N] [CAPTURE ...]

Starts from the captures of the tests and those given.  Packets are changed by the structure of
their file (records, lengths, times, link type) and of their headers (IP, TCP, options), put
together anew or mixed with those of others.  An input that reaches a step from one line to another
that none before had reached joins the corpus.  An exception other than ``CaptureError``, a warning
of numpy, or an input that takes more than 20 s of processor time is a finding; it is written to the
folder.
"""

from __future__ import annotations

import argparse
import gzip
import random
import struct
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from bench.fuzz import inspected

import mptcplab
from mptcplab import trace
from mptcplab.trace.files.writing import CaptureWriter
from mptcplab.trace.output.tables import tables
from mptcplab.trace.packet_filter import parse_filter
from mptcplab.trace.packets import packet_lines, write_packets

CAPTURES = Path(__file__).parents[1] / "tests" / "captures"
WATCHED = tuple(str(Path(mptcplab.__file__).parent / part) for part in ("trace", "wire"))
FILTERS = (
    "tcp.stream > 0 or dsn in 1..500 or retransmission",
    "ip.addr == 10.0.0.0/8 and tcp.flags & 0x12 or token > 5 or ipv6.src != ::1",
    "tcp.options.mptcp.sendkey and not duplicate_ack or rtt > 0 or in_flight > 5",
)
MOST_RECORDS = 150
LONGEST_S = 20.0
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 10, 12, 20, 30, 40, 0x45, 0x60, 0x7F, 0x80, 0xFE, 0xFF)

Record = tuple[int, int, bytes, int]
"""(seconds, fraction, bytes, original length)."""


class Capture:
    """A pcap file as its parts."""

    def __init__(self, link_type: int, records: list[Record]) -> None:
        self.link_type = link_type
        self.records = records

    @classmethod
    def read(cls, path: Path) -> Capture | None:
        """Read the first records of a file, None where it is none of the plain kinds."""
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        with tempfile.TemporaryDirectory() as folder:
            plain, file = Path(folder, "in"), Path(folder, "x.pcap")
            plain.write_bytes(data)
            writer = CaptureWriter(file, [])
            try:
                write_packets(trace.open(plain), None, writer)
            except trace.CaptureError:
                return None
            data = file.read_bytes()
        (link_type,) = struct.unpack_from("<I", data, 20)
        records: list[Record] = []
        at = 24
        while at < len(data) and len(records) < MOST_RECORDS:
            seconds, fraction, captured, original = struct.unpack_from("<IIII", data, at)
            records.append((seconds, fraction, data[at + 16 : at + 16 + captured], original))
            at += 16 + captured
        return cls(link_type, records)

    def encoded(self) -> bytes:
        """Return the file."""
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, self.link_type)
        return head + b"".join(
            struct.pack("<IIII", seconds & 0xFFFFFFFF, fraction & 0xFFFFFFFF, len(data), original)
            + data
            for seconds, fraction, data, original in self.records
        )


def _changed_bytes(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not out:
            break
        at = min(rng.randrange(len(out)), rng.randrange(len(out)))  # mostly in the headers
        match rng.randrange(5):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.choice(INTERESTING)
            case 2:
                out[at : at + 2] = struct.pack(
                    ">H", rng.choice((0, 1, 0xFFFF, rng.getrandbits(16)))
                )
            case 3:
                step = rng.choice((-1, 1)) * rng.choice((1, 2, 1000, 1 << 16, 1 << 31))
                word = int.from_bytes(out[at : at + 4], "big") + step & 0xFFFFFFFF
                out[at : at + 4] = word.to_bytes(4, "big")
            case _:
                out[at : at + 8] = rng.randbytes(8)
    return bytes(out)


def _changed_option(rng: random.Random, data: bytes) -> bytes:
    """Change an MPTCP option, which starts with its kind, 30, and its length."""
    places = [k for k in range(len(data) - 3) if data[k] == 30 and 3 <= data[k + 1] <= 40]
    if not places:
        return _changed_bytes(rng, data)
    at = rng.choice(places)
    out = bytearray(data)
    match rng.randrange(4):
        case 0:
            out[at + 1] = rng.randrange(42)
        case 1:
            out[at + 2] = rng.randrange(256)
        case 2:
            out[at + 3] = rng.randrange(256)
        case _:
            size = max(1, out[at + 1] - 4)
            out[at + 4 : at + 4 + size] = rng.randbytes(size)
    return bytes(out[: len(data)])


def mutated(rng: random.Random, corpus: list[Capture]) -> Capture:
    """Return a capture made of one or two of the corpus."""
    base = rng.choice(corpus)
    records = list(base.records)
    link_type = base.link_type
    for _ in range(rng.choice((1, 1, 2, 3, 8, 20))):
        if not records:
            break
        k = rng.randrange(len(records))
        seconds, fraction, data, original = records[k]
        match rng.randrange(12):
            case 0 | 1 | 2:
                records[k] = seconds, fraction, _changed_bytes(rng, data), original
            case 3 | 4:
                records[k] = seconds, fraction, _changed_option(rng, data), original
            case 5:  # cut by the snap length
                records[k] = seconds, fraction, data[: rng.randrange(len(data) + 1)], original
            case 6:
                del records[k : k + rng.choice((1, 1, 5, 50))]
            case 7:
                records[k:k] = records[k : k + rng.choice((1, 1, 5))]
            case 8:
                other = rng.randrange(len(records))
                records[k], records[other] = records[other], records[k]
            case 9:
                step = rng.choice((-1, 1)) * rng.choice((0, 1, 3600, 1 << 20, 1 << 31))
                records[k] = seconds + step, rng.randrange(1 << 20), data, original
            case 10:
                other_one = rng.choice(corpus)
                first = rng.randrange(len(other_one.records) or 1)
                records[k:k] = other_one.records[first : first + rng.choice((1, 5, 40))]
            case _:
                original = rng.choice((0, 1, len(data), len(data) + 1, 1500, 1 << 17))
                records[k] = seconds, fraction, data, original
    if rng.randrange(40) == 0:
        link_type = rng.choice((0, 1, 9, 12, 101, 105, 113, 127, 228, 229, 276, rng.randrange(300)))
    return Capture(link_type, records[: 3 * MOST_RECORDS])


class Coverage:
    """The steps from line to line that inputs have reached."""

    def __init__(self) -> None:
        self.steps: set[tuple[int, int, int]] = set()
        self._fresh = 0
        self._local: dict[int, int] = {}

    def run(self, act: Any) -> int:
        """Run something; returns how many new steps it reached."""
        self._fresh = 0
        sys.settrace(self._called)
        try:
            act()
        finally:
            sys.settrace(None)
        return self._fresh

    def _called(self, frame: FrameType, what: str, _: Any) -> Any:
        code = frame.f_code
        if what != "call" or not code.co_filename.startswith(WATCHED):
            return None
        last = 0
        identity = id(code)

        def line(at: FrameType, happened: str, _: Any) -> Any:
            nonlocal last
            if happened == "line":
                step = (identity, last, at.f_lineno)
                last = at.f_lineno
                if step not in self.steps:
                    self.steps.add(step)
                    self._fresh += 1
            return line

        return line


def digest(data: bytes, folder: Path, thorough: bool) -> None:
    """Do everything that a user can ask of a capture."""
    path = folder / "x.pcap"
    path.write_bytes(data)
    try:
        capture = inspected(path)
    except trace.CaptureError:
        return
    if thorough:
        for text in FILTERS:
            list(packet_lines(capture, parse_filter(text)))
        tables(capture)
        name = folder / "out.pcapng"
        write_packets(capture, parse_filter("mptcp"), CaptureWriter(name, []))
        trace.open(name)
        trace.open([path, name])


def main() -> None:
    """Search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("captures", nargs="*", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("error")
    rng = random.Random(args.seed)
    read = [Capture.read(path) for path in [*sorted(CAPTURES.glob("*.pcap.gz")), *args.captures]]
    corpus = [capture for capture in read if capture is not None and capture.records]
    coverage = Coverage()
    known: set[str] = set()
    runs = 0
    end = time.monotonic() + 60 * args.minutes
    told = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for capture in corpus:
            coverage.run(lambda capture=capture: digest(capture.encoded(), folder, True))
        print(f"{len(corpus)} captures reach {len(coverage.steps):,} steps", flush=True)
        while time.monotonic() < end:
            capture = mutated(rng, corpus)
            data = capture.encoded()
            runs += 1
            begun = time.process_time()
            try:
                fresh = coverage.run(
                    lambda data=data, thorough=runs % 10 == 0: digest(data, folder, thorough)
                )
                if time.process_time() - begun > LONGEST_S:
                    raise TimeoutError(f"took {time.process_time() - begun:.0f} s")
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{type(error).__name__} {last.filename}:{last.lineno}"
                if place not in known:
                    known.add(place)
                    args.out.mkdir(parents=True, exist_ok=True)
                    file = args.out / f"{len(known)}.pcap"
                    file.write_bytes(data)
                    print(f"{file}: {place}: {error}", flush=True)
                    traceback.print_exc()
                continue
            if fresh:
                corpus.append(capture)
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print(
                    f"{runs:,} inputs, {len(corpus)} in the corpus, {len(coverage.steps):,} steps, "
                    f"{len(known)} findings",
                    flush=True,
                )
    print(f"{runs:,} inputs, {len(coverage.steps):,} steps, {len(known)} findings")
    sys.exit(1 if known else 0)


if __name__ == "__main__":
    main()

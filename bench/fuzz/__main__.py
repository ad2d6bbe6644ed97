"""Search for input that breaks a promise: scenario files, run folders, captures, packets.

    python -m bench.fuzz [--minutes N] [--seed N] [--out FOLDER] [--target NAME ...]

Each target takes bytes and does with them what a command would; it may refuse them with an error of
the project's own (one that has an ``exit_status``, or a WireError) and nothing else.  An input that
takes a step from one line of the package to another that none before had taken joins the corpus,
from which inputs are changed and mixed.

An unexpected exception, a warning, more than 20 s of processor time or more than 8 GiB of address
space is a finding: the input is written to FOLDER with the traceback, once for each place in the
code.  ``--replay FILE --target NAME`` runs one again.  The same seed makes the same inputs
as long as the code is the same and each takes as long as before.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import Final

from bench.fuzz.coverage import ROOT, Coverage
from bench.fuzz.targets import TARGETS, Act, make_sound_run

from mptcplab.wire.error import WireError

LONGEST_S: Final = 20
MEMORY_BYTES: Final = 8 << 30
"""Of address space, of which threads and allocators reserve more than they use."""


class TooSlowError(Exception):
    """An input took too long."""


def _too_slow(_signum: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {LONGEST_S} s of processor time")


def attempt(act: Act, data: bytes, folder: Path) -> BaseException | None:
    """Give an input to a target; return the exception that breaks its promise, or None."""
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    try:
        act(data, folder)
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
        self._seeds = self._target.seeds(sound)

    def step(self, coverage: Coverage, folder: Path) -> None:
        """Try one input."""
        if self._seeds:
            data = self._seeds.pop()
            self._corpus.append(data)
        else:
            # half of the time one of the latest, which led to what is new
            recent = self._corpus[-20:] if self._rng.random() < 0.5 else self._corpus
            data = self._target.change(self._rng, self._rng.choice(recent), self._corpus)
        with coverage.watching():
            error = attempt(self._target.act, data, folder)
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
        sound = make_sound_run(scratch)
        folder = scratch / "work"
        folder.mkdir()
        if args.replay is not None:
            TARGETS[args.target[0]].act(args.replay.read_bytes(), folder)
            return
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        rng = random.Random(args.seed)
        searches = [Search(each, rng, args.out, sound) for each in args.target or TARGETS]
        coverage = Coverage()
        end = time.monotonic() + 60 * args.minutes
        told = time.monotonic()
        while time.monotonic() < end:
            for search in searches:
                turn = time.monotonic() + 2.0  # each gets as much time, not as many inputs
                while time.monotonic() < min(turn, end):
                    search.step(coverage, folder)
            if time.monotonic() - told > 60:
                told = time.monotonic()
                runs = sum(search.runs for search in searches)
                found = sum(len(search.findings) for search in searches)
                print(f"{runs:,} inputs, {len(coverage):,} steps, {found} findings", flush=True)
        for search in searches:
            print(
                f"{search.name}: {search.runs:,} inputs, {search.corpus} in the corpus, "
                f"{len(search.findings)} findings"
            )
    sys.exit(1 if any(search.findings for search in searches) else 0)


if __name__ == "__main__":
    main()

"""The testbeds by name, each imported only when a scenario runs on it."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mptcplab.results.observer import Observer

if TYPE_CHECKING:
    from mptcplab.scenario.model import Scenario

# name -> module with a function run(scenario, folder, observer) -> Path
TESTBEDS: Final = {
    "hosts": "mptcplab.remote.testbed",
    "linux": "mptcplab.linux.testbed",
    "simulated": "mptcplab.simulated.testbed",
}
DEFAULT: Final = "simulated"

LONG_S: Final = 10
"""A simulation that takes longer is worth a word on the build that would be faster."""
_FIRST_LOOK_S: Final = 1


def run_on(name: str, scenario: Scenario, folder: Path, observer: Observer) -> Path:
    """Run a scenario on a testbed and return the folder of the finished run.

    Flows start as the scenario's seed draws it.
    """
    from mptcplab.provenance import this_build
    from mptcplab.scenario.repetition import with_drawn_starts

    module = importlib.import_module(TESTBEDS[name])
    if name == "simulated" and not this_build().compiled:
        observer = _SayInterpreted(observer, scenario.duration_ns)
    written: Path = module.run(with_drawn_starts(scenario), folder, observer)
    return written


class _SayInterpreted(Observer):
    """Passes everything on, and says once that a long simulation need not be."""

    def __init__(self, observer: Observer, duration_ns: int) -> None:
        self._observer = observer
        self._duration_ns = duration_ns
        self._started_s = time.monotonic()
        self._looking = True

    def phase(self, name: str) -> None:
        self._observer.phase(name)

    def event(self, time_ns: int, text: str) -> None:
        self._observer.event(time_ns, text)

    def tick(
        self,
        time_ns: int,
        flows_bps: Mapping[str, float],
        links_bps: Mapping[str, tuple[float, float]],
        rtt_ns: Mapping[str, int | None],
    ) -> None:
        self._observer.tick(time_ns, flows_bps, links_bps, rtt_ns)
        taken_s = time.monotonic() - self._started_s
        if self._looking and time_ns and taken_s >= _FIRST_LOOK_S:
            self._looking = False
            if taken_s * self._duration_ns / time_ns > LONG_S:
                _say_interpreted()


@cache  # once, however many runs a command makes
def _say_interpreted() -> None:
    from mptcplab.provenance import SLOWDOWN, how_to_compile

    with suppress(OSError):  # whoever read it has gone; the run goes on
        print(
            f"mptcplab: this is the interpreted build; the compiled one gives the same results "
            f"about {SLOWDOWN} times faster: {how_to_compile()}",
            file=sys.stderr,
            flush=True,
        )

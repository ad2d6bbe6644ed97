"""One run on its way into its folder, whichever testbed makes it: its beginning, and its end."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mptcplab import __version__
from mptcplab.loop.stop_signals import on_stop_signal
from mptcplab.results.writer import RunWriter


class Recording:
    """Puts down what every run has in common, and leaves no folder of one that is broken off.

    It is a context: an exception in it abandons the run, and stop signals are whoever's they were
    once it is over.
    """

    def __init__(self, folder: Path, testbed: str, kernel: str | None = None) -> None:
        """Make ready to write ``folder``; raises as RunWriter does.

        ``kernel`` is the release of the kernel whose MPTCP is measured; None where there is none,
        or several.
        """
        self._started, self._began_ns = datetime.now(UTC), time.monotonic_ns()
        self.writer = RunWriter(folder)
        self._testbed = testbed
        self._kernel = kernel
        self._stops = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is not None:
                self.writer.abandon()
        finally:
            self._stops.close()

    def stop_by(self, stop: Callable[[str], None]) -> None:
        """From now on, until all is written, let a stop signal call ``stop`` with its name alone.

        Once something is measured, no signal is to take it away again.
        """
        self._stops.enter_context(on_stop_signal(stop))

    def finish(
        self,
        scenario: Mapping[str, Any],
        metadata: Mapping[str, Any],
        reasons: Iterable[str] = (),
    ) -> Path:
        """Write the run and return its folder; ``reasons`` say why it is invalid, none that it is.

        Raises as :meth:`RunWriter.finish` does.
        """
        why = list(reasons)
        self.writer.metadata(metadata)
        self.writer.metadata(
            {
                "scenario": scenario,
                "testbed": self._testbed,
                "started": self._started.isoformat(timespec="seconds"),
                "wall_s": round((time.monotonic_ns() - self._began_ns) / 1e9, 3),
                "versions": {
                    "mptcplab": __version__,
                    "python": platform.python_version(),
                    "kernel": self._kernel,
                },
            }
        )
        return self.writer.finish(valid=not why, reasons=why)

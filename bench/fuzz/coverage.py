"""What an input reaches: the steps from one line of the package to the next."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import mptcplab

ROOT: Final = Path(mptcplab.__file__).parent


class Coverage:
    """The steps from line to line within a function that inputs have taken."""

    def __init__(self) -> None:
        self.fresh = 0
        self._steps: set[tuple[CodeType, int, int]] = set()
        self._inside = str(ROOT)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Count the steps that are new."""
        self.fresh = 0
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(self._inside):
            return None
        last = 0

        def step(at: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            if event == "line":
                taken = (code, last, at.f_lineno)
                last = at.f_lineno
                if taken not in self._steps:
                    self._steps.add(taken)
                    self.fresh += 1
            return step

        return step

    def __len__(self) -> int:
        return len(self._steps)

"""An agent on standard input and output, without SSH, that is killed at a line of its own.

``python dying_agent.py N``: at the Nth line of the agent's modules that it comes to, itself and
not its guardian; 0 is never.  A count of its lines goes to standard error where it ends.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from mptcplab.remote.agent import main as agent


def main(last: int) -> None:
    """Serve, and count lines meanwhile."""
    own = os.getpid()
    folder = str(Path(agent.__file__).parent)
    lines = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        if event == "call":
            return trace if frame.f_code.co_filename.startswith(folder) else None
        if event == "line" and os.getpid() == own:
            lines += 1
            if lines == last:
                os.kill(own, signal.SIGKILL)
        return trace

    sys.settrace(trace)
    agent.main("", "change")
    sys.settrace(None)
    print(lines, file=sys.stderr)


main(int(sys.argv[1]))

"""Which ports programs have taken, as /proc tells without disturbing them."""

from __future__ import annotations

import contextlib
from pathlib import Path


def is_bound(pid: int, port: int) -> bool:
    """Return whether a socket in the process's network namespace is bound to a port."""
    wanted = f":{port:04X}"
    for name in ("tcp", "tcp6", "udp", "udp6"):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
            if any(line.split()[1].endswith(wanted) for line in lines):
                return True
    return False

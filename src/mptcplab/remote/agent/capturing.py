"""Captures on a host's interfaces, by its tcpdump, into memory."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from typing import Final

from mptcplab.remote.agent.journal import CommandError
from mptcplab.remote.agent.processes import die_with_parent

_BUFFER_KIB: Final = 16384
_LISTENS_WITHIN_S: Final = 10
_BLOCK_S: Final = 1.1
"""tcpdump gets packets a block at a time, when it is full or a second old."""
_END_WITHIN_S: Final = 5


class HostCapture:
    """One tcpdump, from its start until its file has been read."""

    def __init__(self, interface: str, snaplen: int, most_bytes: int) -> None:
        """Start it and wait until it listens; CommandError where it does not.

        It ends by itself when it has written about ``most_bytes``.
        """
        self._file = os.memfd_create("capture")
        self.most_bytes = most_bytes
        self.full = False
        self._process = subprocess.Popen(
            [
                *("tcpdump", "-i", interface, "-s", str(snaplen), "-n", "-U"),
                *("-B", str(_BUFFER_KIB), "-Z", "root", "-w", f"/proc/self/fd/{self._file}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(self._file,),
            preexec_fn=die_with_parent,
        )
        self._wait_until_it_listens(interface)

    def _wait_until_it_listens(self, interface: str) -> None:
        assert self._process.stderr is not None
        said = b""
        deadline = time.monotonic() + _LISTENS_WITHIN_S
        while b"listening on" not in said:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._process.stderr], [], [], left)[0]
            more = os.read(self._process.stderr.fileno(), 4096) if ready else b""
            if not more:
                self.close()
                text = " ".join(said.decode(errors="replace").split())[:200]
                raise CommandError(f"tcpdump on {interface} does not listen: {text}")
            said += more

    def look(self) -> None:
        """End it where its file is full."""
        if not self.full and os.fstat(self._file).st_size > self.most_bytes:
            self.full = True
            self._process.send_signal(signal.SIGINT)

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def stop(self) -> int:
        """Let it write what it has, and return the length of its file."""
        if self._process.poll() is None:
            time.sleep(_BLOCK_S)
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_END_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return os.fstat(self._file).st_size

    def read(self, start: int, count: int) -> bytes:
        """Return a part of its file."""
        return os.pread(self._file, count, start)

    def close(self) -> None:
        """Kill it and forget its file."""
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        os.close(self._file)

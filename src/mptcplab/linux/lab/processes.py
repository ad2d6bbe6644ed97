"""Programs on a host of the lab: in its network, with its name, its /sys and the lab's /proc, and
with the names of the lab's hosts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.kernel.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    mount,
    set_host_name,
    setns,
    unmount,
    unshare,
)

_SYS: Final = Path("/sys")
_HOSTS: Final = Path("/etc/hosts")


def become_part_of(host: str, network: int, names: bytes) -> None:
    """Move the calling process, which has one thread, onto a host.

    ``network`` is a descriptor of the host's network namespace, ``names`` what /etc/hosts is to
    hold.  A fresh /sys shows that namespace's interfaces; where a container refuses the mounts,
    /sys and /etc/hosts stay the machine's.
    """
    setns(network, CLONE_NEWNET)
    unshare(CLONE_NEWNS | CLONE_NEWUTS)
    set_host_name(host)
    with contextlib.suppress(OSError):
        mount("", "/", "", MS_REC | MS_SLAVE)
        with contextlib.suppress(OSError):
            _show_names(names)
        mount("sysfs", str(_SYS), "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _show_names(names: bytes) -> None:
    """Put a file of the process's own over /etc/hosts, in its mount namespace alone.

    The file's tmpfs is mounted where there is a folder for sure, and from then on seen there only.
    """
    mount("tmpfs", str(_SYS), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    try:
        file = _SYS / _HOSTS.name
        file.write_bytes(names)
        file.chmod(0o644)
        mount(str(file), str(_HOSTS), "", MS_BIND)
    finally:
        unmount(str(_SYS))


def start_on(
    host: str, network: int, names: bytes, argv: Sequence[str], **options: Any
) -> subprocess.Popen[bytes]:
    """Start a program on a host, where names are resolved by ``names``; ``options`` are those of
    subprocess.Popen.

    OSError where the program is not there.  It ends with the lab whatever it does: the lab's PID
    namespace contains it.
    """

    def enter() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        become_part_of(host, network, names)

    return subprocess.Popen(
        list(argv), preexec_fn=enter, **{"env": {**os.environ, "HOSTNAME": host}, **options}
    )


def was_stopped(child: int) -> bool:
    """Return whether a signal (SIGSTOP) stopped a child of ours, now or earlier, though it runs
    again; the kernel remembers that until somebody waits for it (waitid(2), WCONTINUED).
    """
    which = os.WSTOPPED | os.WCONTINUED | os.WNOHANG | os.WNOWAIT
    try:
        return os.waitid(os.P_PID, child, which) is not None
    except ChildProcessError:  # it has ended
        return False

"""System calls that Python 3.11 does not have: namespaces, mounts, parent-death signals.

Constants: include/uapi/linux/sched.h, mount.h and prctl.h.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_SLAVE: Final = 1 << 19
_MNT_DETACH: Final = 2

_PR_SET_PDEATHSIG: Final = 1


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (unshare(2)); OSError where refused."""
    _check(_libc().unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into a namespace held by a descriptor (setns(2))."""
    _check(_libc().setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """Mount a file system, or change how one is mounted (mount(2))."""
    _check(
        _libc().mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()),
        f"mount {kind or source} on {target}",
    )


def unmount(target: str) -> None:
    """Unmount what was mounted last on a folder or file, at once; whoever has it open keeps it
    (umount2(2), MNT_DETACH).
    """
    _check(_libc().umount2(target.encode(), _MNT_DETACH), f"unmount {target}")


def set_parent_death_signal(number: int) -> None:
    """Ask for a signal at the death of the thread that forked this process (prctl(2)).

    A parent that died before the call is not noticed: check afterwards.
    """
    _check(_libc().prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def set_host_name(name: str) -> None:
    """Set the host name of this UTS namespace."""
    encoded = name.encode()
    _check(_libc().sethostname(encoded, len(encoded)), "sethostname")

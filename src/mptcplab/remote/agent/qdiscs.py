"""Whether netem can be put on this host's interfaces: tried, where nothing of the host changes."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

from mptcplab.linux.kernel.syscalls import CLONE_NEWNET, unshare

_ASK_S: Final = 20
_OF_THE_KERNEL: Final = "0:"
"""The handle of a qdisc that the kernel has attached by itself (net/sched/sch_generic.c)."""


def netem_facts() -> dict[str, Any]:
    """Return what keeps netem from working here, or an empty text; and the interfaces that have a
    root qdisc which somebody has put there, each with its kind and handle.
    """
    return {"problem": _problem(), "qdiscs": _root_qdiscs()}


def _problem() -> str:
    """Try netem in a network namespace of its own, which goes with the program that tries."""
    try:
        done = subprocess.run(
            ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: unshare(CLONE_NEWNET),
        )
    except FileNotFoundError:
        return "there is no `tc`; install iproute2"
    except (OSError, subprocess.SubprocessError) as error:
        return f"netem cannot be tried: {error}"
    if done.returncode == 0:
        return ""
    said = " ".join((done.stderr or done.stdout).split())[:200]
    return (
        f"its kernel has no netem (CONFIG_NET_SCH_NETEM; {said or f'status {done.returncode}'}); "
        "install the package with its further modules (Ubuntu: linux-modules-extra), or use a "
        "kernel that has it"
    )


def _root_qdiscs() -> dict[str, str]:
    try:
        done = subprocess.run(
            ["tc", "-j", "qdisc", "show"],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            stdin=subprocess.DEVNULL,
        )
        shown = json.loads(done.stdout or "[]")
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return {
        str(each["dev"]): f"{each.get('kind', '')} {each['handle']}"
        for each in shown
        if each.get("root") and "dev" in each and each.get("handle", "0:") != _OF_THE_KERNEL
    }

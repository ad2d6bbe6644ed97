"""Runs on machines that are ended in every unkind way, and what has to be left: nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.linux.remote.conftest import TWO_LINKS
from tests.linux.remote.machines import Machines

from mptcplab.linux.kernel import rtnl

RUN: Final = ("--on", "hosts", "--duration", "4s", "--json")
LONGEST_S: Final = 8.0
"""About as long as agents are there in such a run."""
_ENDS_WITHIN_S: Final = 120


def kill_controller(machines: Machines, run: subprocess.Popen[str]) -> str:
    """SIGKILL the command."""
    del machines
    run.kill()
    return "the command was killed"


def cut_line(machines: Machines, run: subprocess.Popen[str]) -> str:
    """Take the management network away from all machines, for good as far as a run can tell."""
    _set_ports(machines, up=False)
    run.communicate(timeout=_ENDS_WITHIN_S)
    return "the management network was gone"


def kill_agent(machines: Machines, run: subprocess.Popen[str]) -> str:
    """SIGKILL one process of an agent, whichever: itself, its guardian or a worker."""
    del run
    agents = machines.agents()
    if not agents:
        return "no agent was there any more"
    chosen = random.choice(agents)
    parents = {each: machines.parent(each) for each in agents}
    with suppress(ProcessLookupError):
        os.kill(chosen, signal.SIGKILL)
    return f"{chosen} was killed, of agents {parents} (each with its parent)"


def kill_all_of_agents(machines: Machines, run: subprocess.Popen[str]) -> str:
    """SIGKILL all processes of all agents at once, guardians too: only journals are left."""
    del run
    agents = machines.agents()
    for agent in agents:
        with suppress(ProcessLookupError):
            os.kill(agent, signal.SIGKILL)
    return f"{agents} were killed"


WAYS: Final[dict[str, Callable[[Machines, subprocess.Popen[str]], str]]] = {
    "controller": kill_controller,
    "line": cut_line,
    "agent": kill_agent,
    "everything": kill_all_of_agents,
}


def end_a_run(
    machines: Machines, way: str, after_s: float, *options: str, scenario: Path = TWO_LINKS
) -> None:
    """Start a run, with these options, end it in a way so many seconds after its first agent, and
    fail if anything is left; the AssertionError says what was done to it, and when.
    """
    before = machines.state()
    run = machines.start("run", str(scenario), *RUN, *options, *machines.options)
    while not machines.agents() and run.poll() is None:
        time.sleep(0.02)
    time.sleep(after_s)
    try:
        done = WAYS[way](machines, run)
        run.communicate(timeout=_ENDS_WITHIN_S)
    finally:
        run.kill()
        run.communicate()
        _set_ports(machines, up=True)
    if way == "everything":  # nobody is left to undo it but the next command
        down = machines.run("hosts", str(TWO_LINKS), "down", *machines.options)
        assert down.returncode == 0, down.stderr
    machines.expect(before, within_s=30, of=f"{done} after {after_s:.2f} s")


def _set_ports(machines: Machines, *, up: bool) -> None:
    devices = rtnl.devices(machines.management.routing)
    for name, device in devices.items():
        if name.startswith("to-"):
            machines.management.routing.request(rtnl.set_link(device.index, up=up))

"""Fabrics of Open vSwitch in a lab: ports are spread, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.linux.test_routers import in_lab, links_of_transfer, loaded
from tests.unit.network.test_switching import BY_ADDRESSES, PARALLEL, ROUTED

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.testbed import run
from mptcplab.results.run import Run

pytestmark = [pytest.mark.kernel, pytest.mark.program("ovs-vswitchd")]

PATIENCE_S = 20.0
PORTS = range(40000, 40008)


def taken(text: str, tmp_path: Path) -> tuple[list[set[str]], list[Any]]:
    """Return the links of a transfer from each port, and what the switches say of them."""
    scenario = loaded(tmp_path, text)
    (path,) = scenario.paths(scenario.flows[0])
    ends = (str(path.local_address.ip), str(path.remote_address.ip))

    def work(lab: Lab) -> tuple[list[set[str]], list[Any]]:
        links = [links_of_transfer(lab, ends, (port, 5001)) for port in PORTS]
        assert lab.fabric is not None
        return links, lab.fabric.taken()

    found: tuple[list[set[str]], list[Any]] = in_lab(scenario, work)
    return found


def test_ports_are_spread_and_switches_say_how(tmp_path: Path) -> None:
    links, said = taken(ROUTED, tmp_path)
    forward = {each.source_port: each.link for each in said if each.switch == "west"}
    assert links == [{"left", forward[port], "door", "right"} for port in PORTS]
    assert len(set(forward.values())) > 1


def test_addresses_lead_where_the_topology_says(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, BY_ADDRESSES)
    (path,) = scenario.paths(scenario.flows[0])
    links, said = taken(BY_ADDRESSES, tmp_path)
    assert links == [set(path.links)] * len(PORTS)
    assert said == []


def test_subflows_of_a_run_fill_the_links_that_they_take(tmp_path: Path) -> None:
    emulated = PARALLEL.replace("10Mb/s", '10Mb/s", rtt = "10ms', 1)
    scenario = loaded(tmp_path, emulated)
    finished = Run(run(scenario, tmp_path / "run"))
    # a machine that others use as well may be too busy to fill links, which says nothing here
    reasons = [each for each in finished.metadata["invalid_reasons"] if "CPU" not in each]
    assert not reasons
    used = {each["link"] for each in finished.metadata["fabric"] if each["switch"] == "west"}
    sent = {
        name: sum(
            row["tx_bytes"]
            for row in finished.table("links").to_pylist()
            if (row["link"], row["direction"]) == (name, "forward")
        )
        for name in used
    }
    assert sent
    assert all(each > 500_000 for each in sent.values())  # of 2.5 MB in 2 s


def switches_running() -> set[str]:
    """Return the processes of Open vSwitch on this machine."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/comm"):
        try:
            if entry.read_text().startswith(("ovs-vswitchd", "ovsdb-server")):
                found.add(entry.parent.name)
        except OSError:
            continue
    return found


def test_a_switch_that_is_killed_is_told_in_a_line(tmp_path: Path) -> None:
    def work(lab: Lab) -> str:
        assert lab.fabric is not None
        (database,) = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and b"ovsdb-server" in (entry / "cmdline").read_bytes()
        ]
        os.kill(database, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while lab.fabric.is_alive:
            assert time.monotonic() < deadline
        with pytest.raises(MachineCannotError, match="Open vSwitch has ended"):
            lab.fabric.add([])
        return "told"

    assert in_lab(loaded(tmp_path, PARALLEL), work) == "told"


def test_a_killed_run_leaves_no_switch(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(PARALLEL)
    before = switches_running()
    command = [sys.executable, "-m", "mptcplab", "run", str(file), "--on", "linux"]
    process = subprocess.Popen(
        [*command, "--duration", "30s", "--out", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(switches_running() - before) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(switches_running() - before) >= 2
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + PATIENCE_S
    while switches_running() - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert switches_running() <= before
    left = [*Path("/run").glob("*.ctl"), *Path("/run").glob("*.db"), *Path("/run").glob("*.mgmt")]
    assert left == []
    assert not [name for _, name in socket.if_nameindex() if name.startswith(("br", "ovs"))]

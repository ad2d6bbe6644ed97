"""Endpoints, backups and priorities on the running kernel."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.endpoint_rows import (
    ADDRESSES,
    BACKUP,
    OUTAGE,
    PHONE,
    PRIORITIES,
    ROWS,
    WITH_ENDPOINT,
    acked,
    row,
    shown,
)
from tests.linux.two_links import faults, finished

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel import mptcp_endpoints
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits
from mptcplab.linux.kernel.netlink import NetlinkError
from mptcplab.linux.lab.lab import Lab, open_scenario
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.linux.probes.diag import DiagSocket
from mptcplab.results.run import Run
from mptcplab.scenario.model import Scenario

pytestmark = pytest.mark.kernel

_PORT = 5001
CALM = "interval=250ms"
_IPPROTO_MPTCP = 262
_PATIENCE_S = 3.0


def in_lab(scenario: Scenario, work: Callable[[Lab], Any]) -> Any:
    def run(send: object) -> Any:
        with open_scenario(scenario) as lab:
            return work(lab)

    return run_supervised(run)


def subflows_of(lab: Lab, scenario: Scenario, wanted: int) -> str:
    """Open a connection and return its subflows, once there are so many and no more come."""
    first, *_ = scenario.paths(scenario.flows[0])
    with ExitStack() as opened:
        with lab.enter("server"):
            listener = opened.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_STREAM, _IPPROTO_MPTCP)
            )
            listener.bind(("", _PORT))  # joins to its other addresses need somebody who listens
            listener.listen()
        with lab.enter("client"):
            client = opened.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_STREAM, _IPPROTO_MPTCP)
            )
            client.bind((str(first.local_address.ip), 0))
            diag = DiagSocket()
            opened.callback(diag.close)
        client.connect((str(first.remote_address.ip), _PORT))
        server = opened.enter_context(listener.accept()[0])
        client.sendall(b"x")
        server.recv(1)
        server.sendall(b"x")
        client.recv(1)
        deadline = time.monotonic() + _PATIENCE_S
        pairs: list[tuple[str, str]] = []
        while len(pairs) < wanted and time.monotonic() < deadline:
            time.sleep(0.1)
            pairs = [
                (each.local_address, each.remote_address)
                for each in diag.tcp()
                if each.token is not None and each.state == "ESTABLISHED"
            ]
        return shown(pairs, scenario)


@pytest.mark.parametrize(("endpoints", "limits", "subflows"), ROWS)
def test_the_kernel_opens_what_check_promises(
    tmp_path: Path, endpoints: str, limits: str, subflows: str
) -> None:
    scenario = row(tmp_path, endpoints, limits)

    def work(lab: Lab) -> tuple[str, bool]:
        plan = lab.plans["client"]
        assert plan.read_back is not None
        taken = [(each.address, each.flags) for each in plan.read_back[0]]
        asked = [(each.address, each.flags) for each in plan.endpoints]
        same = taken == asked and plan.read_back[1] == plan.limits
        return subflows_of(lab, scenario, len(subflows.split())), same

    assert in_lab(scenario, work) == (subflows, True)


def test_the_kernel_refuses_limits_above_8_and_drops_flags_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = row(tmp_path, "subflow 2", "")

    def limits(lab: Lab) -> str:
        try:
            lab.pm("client").set_limits(Limits(9, 0))
        except NetlinkError as error:
            return str(error)
        return ""

    assert "9" in in_lab(scenario, limits)
    unknown = Flags.SUBFLOW | Flags(1 << 20)
    monkeypatch.setattr(
        "mptcplab.linux.lab.endpoint_plan.kernel_endpoint",
        lambda endpoint: Endpoint(endpoint.address, unknown),
    )
    with pytest.raises(MachineCannotError, match=r"hosts\.\w+\.endpoints: .* has taken subflow"):
        in_lab(scenario, lambda lab: None)
    assert mptcp_endpoints.flag_names(unknown) == "subflow"


def flags_of(done: Run, host: str, link: str) -> dict[float, bool]:
    return {
        each["time_ns"] / 1e9: each["backup"]
        for each in done.rows("subflows")
        if each["host"] == host and each["link"] == link and each["state"] == "ESTABLISHED"
    }


@pytest.mark.slow
@pytest.mark.parametrize("manager", ["link-aware", "kernel"])
def test_a_backup_carries_nothing_until_it_is_needed(tmp_path: Path, manager: str) -> None:
    done = finished(tmp_path, BACKUP + OUTAGE, CALM, f"tunables.path_manager={manager}")
    assert faults(done) == []
    phone = done.metadata["endpoints"]["phone"]
    (backup,) = (each for each in phone["endpoints"] if "backup" in each["flags"])
    assert backup in phone["read_back"]["endpoints"]
    for host in ("phone", "server"):
        assert all(flags_of(done, host, "lte").values())
        assert not any(flag for at, flag in flags_of(done, host, "wifi").items() if at < 2)
    lte = acked(done.rows("subflows"), "lte")
    assert lte(0, 1.9) == 0
    assert lte(2, 5) > 500_000
    (switch,) = done.metadata["switches"]
    assert (switch["link"], switch["cause"]) == ("lte", "wifi down")
    assert switch["after_ns"] < (1e9 if manager == "link-aware" else 2.5e9)


@pytest.mark.slow
def test_priorities_change_in_the_timeline(tmp_path: Path) -> None:
    done = finished(tmp_path, PHONE + PRIORITIES, CALM)
    assert faults(done) == []
    lte = acked(done.rows("subflows"), "lte")
    assert lte(0.2, 1.9) > 300_000
    assert lte(2.6, 3.9) < 30_000
    assert lte(4.2, 6) > 300_000
    for host in ("phone", "server"):
        flags = flags_of(done, host, "lte")
        assert not any(flag for at, flag in flags.items() if at < 1.9)
        assert all(flag for at, flag in flags.items() if 2.5 < at < 3.9)
        assert not any(flag for at, flag in flags.items() if at > 4.6)


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["kernel", "ours"])
def test_addresses_go_and_come_in_the_timeline(tmp_path: Path, stack: str) -> None:
    done = finished(tmp_path, WITH_ENDPOINT + ADDRESSES, CALM, f"hosts.phone.stack={stack}")
    assert faults(done) == []
    lte = acked(done.rows("subflows"), "lte")
    assert lte(0.2, 1.9) > 300_000
    assert lte(2.5, 3) == 0
    assert lte(3, 4) > 10_000
    assert lte(4.5, 6) == 0

"""Endpoints, backups and priorities in simulation."""

from __future__ import annotations

from pathlib import Path

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
    opened,
    row,
)

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.scenario.model import Scenario
from mptcplab.simulated.testbed import run

QUIET = 30_000
"""Bytes: no more than what was on its way when a path came back."""


def simulated(tmp_path: Path, text: str, *overrides: str) -> Run:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    return done(tmp_path, load(file, overrides=overrides))


def done(tmp_path: Path, scenario: Scenario) -> Run:
    finished = Run(run(scenario, tmp_path / "run", Silent()))
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    return finished


@pytest.mark.parametrize(("endpoints", "limits", "subflows"), ROWS)
@pytest.mark.parametrize("manager", ["kernel", "link-aware"])
def test_our_path_managers_open_what_linux_opens(
    tmp_path: Path, endpoints: str, limits: str, subflows: str, manager: str
) -> None:
    scenario = row(tmp_path, endpoints, limits, f"tunables.path_manager={manager}")
    finished = done(tmp_path, scenario)
    assert opened(finished.rows("subflows"), scenario) == subflows


@pytest.mark.parametrize(("manager", "most_s"), [("link-aware", 0.03), ("kernel", 1.0)])
def test_a_backup_carries_nothing_until_it_is_needed(
    tmp_path: Path, manager: str, most_s: float
) -> None:
    finished = simulated(tmp_path, BACKUP + OUTAGE, f"tunables.path_manager={manager}")
    lte = acked(finished.rows("subflows"), "lte")
    assert lte(0, 2) == 0
    assert lte(2, 5) > 1_000_000
    if manager == "link-aware":  # whose subflow is there again at once
        assert lte(5.3, 6) < QUIET
    (switch,) = finished.metadata["switches"]
    assert (switch["link"], switch["cause"]) == ("lte", "wifi down")
    assert switch["after_ns"] < most_s * 1e9
    (event,) = (each for each in finished.rows("events") if each["event"] == "backup-carries")
    assert event["link"] == "lte"


def test_a_backup_carries_nothing_while_a_lossy_path_lives(tmp_path: Path) -> None:
    finished = simulated(tmp_path, BACKUP, "links.wifi.loss=3%")
    rows = list(finished.rows("subflows"))
    wifi = [each for each in rows if each["host"] == "phone" and each["link"] == "wifi"]
    assert max(each["retransmissions"] for each in wifi) > 10
    assert acked(rows, "lte")(0, 6) == 0


def test_priorities_change_in_the_timeline(tmp_path: Path) -> None:
    finished = simulated(tmp_path, PHONE + PRIORITIES)
    rows = list(finished.rows("subflows"))
    lte = acked(rows, "lte")
    assert lte(0, 2) > 500_000
    assert lte(2.3, 4) == 0
    assert lte(4.2, 6) > 500_000
    for host in ("phone", "server"):  # which has heard MP_PRIO
        flags = {
            each["time_ns"] / 1e9: each["backup"]
            for each in rows
            if each["host"] == host and each["link"] == "lte"
        }
        assert not any(flag for at, flag in flags.items() if at <= 2)
        assert all(flag for at, flag in flags.items() if 2.2 < at <= 4)
        assert not any(flag for at, flag in flags.items() if at > 4.2)


def test_a_priority_counts_for_subflows_to_come(tmp_path: Path) -> None:
    text = (
        PHONE
        + PRIORITIES.replace('for = "2s"', "")
        + OUTAGE.replace("wifi", "lte").replace('"2s"', '"3s"').replace('"3s"\n', '"1s"\n')
    )
    finished = simulated(tmp_path, text)
    last = [each for each in finished.rows("subflows") if each["link"] == "lte"][-1]
    assert last["subflow"] > 1, "the subflow is a new one"
    assert last["backup"]


def test_addresses_go_and_come_in_the_timeline(tmp_path: Path) -> None:
    finished = simulated(tmp_path, WITH_ENDPOINT + ADDRESSES)
    lte = acked(finished.rows("subflows"), "lte")
    assert lte(0, 2) > 500_000
    assert lte(2.2, 3) == 0
    assert lte(3.1, 4) > 300_000
    assert lte(4.2, 6) == 0
    phone = finished.metadata["endpoints"]["phone"]
    assert [each["flags"] for each in phone["endpoints"]] == [["subflow"]]
    assert phone["limits"] == {"subflows": 8, "add_addr_accepted": 8}


def test_a_client_joins_the_port_that_its_server_announces(tmp_path: Path) -> None:
    text = PHONE.replace(
        'hosts = ["phone", "server"]',
        "hosts.phone = {}\nhosts.server.endpoints.eth0 = { signal = true, port = 7001 }",
    )
    finished = simulated(tmp_path, text)
    remotes = {each["remote"] for each in finished.rows("subflows") if each["host"] == "phone"}
    assert {remote.rpartition(":")[2] for remote in remotes} == {"5001", "7001"}

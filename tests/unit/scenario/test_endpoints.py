"""Endpoints, limits, backups, and actions of the timeline upon them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.endpoint_rows import BACKUP, ROWS, promised, row

from mptcplab.network.return_watch import ReturnWatch
from mptcplab.scenario.backup_watch import BackupLinks, BackupWatch, ever_backup
from mptcplab.scenario.describe import describe
from mptcplab.scenario.load import load
from mptcplab.scenario.model import Scenario

PHONE = BACKUP.replace('duration = "6s"', 'duration = "20s"')


def loaded(folder: Path, text: str) -> Scenario:
    file = folder / "scenario.toml"
    file.write_text(text)
    return load(file)


def timeline(scenario: Scenario) -> list[tuple[float, str, str]]:
    return [(each.at_ns / 1e9, each.verb, each.target) for each in scenario.timeline]


@pytest.mark.parametrize(("endpoints", "limits", "subflows"), ROWS)
def test_check_promises_what_linux_opens(
    tmp_path: Path, endpoints: str, limits: str, subflows: str
) -> None:
    assert promised(row(tmp_path, endpoints, limits)) == subflows


def test_a_backup_link_makes_backups_of_its_hosts_interfaces(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, PHONE)
    phone = scenario.topology.host("phone")
    assert [each.backup for each in phone.interfaces] == [False, True]
    first, second = scenario.expected_subflows(scenario.flows[0])
    assert [scenario.is_backup(path) for path in (first, second)] == [False, True]
    text = describe(scenario)
    assert "over lte + core, backup" in text
    assert "over wifi + core, backup" not in text


def test_an_interface_may_say_otherwise_than_its_link(tmp_path: Path) -> None:
    text = PHONE.replace(
        'hosts = ["phone", "server"]',
        "hosts.server = {}\nhosts.phone.interfaces = { eth0 = {}, eth1 = { backup = false } }",
    )
    for name in ("eth0", "eth1"):
        text = text.replace('["phone", "net"]', f'["phone:{name}", "net"]', 1)
    scenario = loaded(tmp_path, text)
    assert not any(map(scenario.is_backup, scenario.expected_subflows(scenario.flows[0])))


def test_what_repeats_is_written_out_and_begins_no_stage(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path, f'{PHONE}[[timeline]]\nat = "5s"\ndown = "wifi"\nfor = "0.5s"\nevery = "7s"\n'
    )
    assert timeline(scenario) == [
        (5.0, "down", "wifi"),
        (5.5, "up", "wifi"),
        (12.0, "down", "wifi"),
        (12.5, "up", "wifi"),
        (19.0, "down", "wifi"),
        (19.5, "up", "wifi"),
    ]
    assert len(scenario.stages()) == 1
    assert len(scenario.steady_stretches()) == 7
    assert "down wifi, 3 times" in describe(scenario)


def test_a_change_for_a_while_brings_back_the_values_of_before(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path,
        f'{PHONE}[[timeline]]\nat = "2s"\nchange = "wifi"\nrate = "8Mb/s"\n'
        '[[timeline]]\nat = "5s"\nchange = "wifi"\nrate = "1Mb/s"\nloss = "2%"\nfor = "1s"\n'
        '[[timeline]]\nat = "9s"\nchange = "wifi"\ndirection = "forward"\ndelay = "90ms"\n'
        'for = "1s"\n',
    )
    ends = [each for each in scenario.timeline if each.at_ns in (6_000_000_000, 10_000_000_000)]
    assert [(each.direction, dict(each.changes)) for each in ends] == [
        ("both", {"rate_bps": 8_000_000, "loss": 0.0}),
        ("forward", {"delay_ns": 10_000_000}),
    ]
    assert [each.label for each in ends] == ["wifi: 8 Mb/s, loss 0 %", "wifi: delay 10 ms"]


def test_an_endpoint_that_is_added_first_is_not_there_before(tmp_path: Path) -> None:
    text = PHONE.replace(
        'hosts = ["phone", "server"]',
        "hosts.server = {}\nhosts.phone.endpoints.eth1 = { subflow = true }",
    )
    scenario = loaded(
        tmp_path, f'{text}[[timeline]]\nat = "5s"\nadd_address = "phone:eth1"\nfor = "2s"\n'
    )
    assert timeline(scenario) == [
        (5.0, "add_address", "phone:eth1"),
        (7.0, "remove_address", "phone:eth1"),
    ]
    (endpoint,) = scenario.endpoints["phone"].endpoints
    assert not endpoint.present
    assert endpoint.backup  # as its interface
    assert len(scenario.expected_subflows(scenario.flows[0])) == 1
    assert "not at first" in describe(scenario)


def test_a_priority_for_a_link_is_that_of_its_hosts_interfaces(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path,
        f'{PHONE}[[timeline]]\nat = "5s"\nset_priority = ["lte", "server:eth0"]\n'
        'backup = false\nfor = "3s"\n',
    )
    assert [
        (*each, dict(action.changes))
        for each, action in zip(timeline(scenario), scenario.timeline, strict=True)
    ] == [
        (5.0, "set_priority", "phone:eth1", {"backup": False}),
        (5.0, "set_priority", "server:eth0", {"backup": False}),
        (8.0, "set_priority", "phone:eth1", {"backup": True}),
        (8.0, "set_priority", "server:eth0", {"backup": True}),
    ]
    links = BackupLinks(scenario)
    seen = [[link.name for link in links.links()]]
    for action in scenario.timeline:
        links.take(action)
        seen.append([link.name for link in links.links()])
    assert seen == [["lte"], [], [], ["lte"], ["lte", "core"]]
    assert ever_backup(scenario) == {"lte", "core"}


def test_a_host_without_endpoints_announces_to_those_that_have_some(tmp_path: Path) -> None:
    scenario = row(tmp_path, "laminar 2 3", "", "hosts.server.endpoints={}")
    server = scenario.endpoints["server"]
    assert [each.flags for each in server.endpoints] == [("signal",)] * 3
    assert promised(scenario) == "1>1 2>2 3>3"


class Watch:
    """Stands for what looks at links: tells which are looked at, and lets one carry data."""

    def __init__(self, on_return: Callable[[str, int, int], None]) -> None:
        self.on_return = on_return
        self.waiting: dict[str, int] = {}

    def came_up(self, link: str, rate_bps: int | None) -> None:
        self.waiting[link] = 0

    def went_down(self, link: str) -> None:
        self.waiting.pop(link, None)


def test_only_backups_that_may_be_needed_are_watched(tmp_path: Path) -> None:
    text = PHONE
    for at, said in enumerate(
        (
            'set_priority = "wifi"\nbackup = true',  # which leaves no regular one
            'set_priority = "wifi"\nbackup = false',
            'down = "wifi"',
            'up = "wifi"',
            'set_priority = ["lte", "server:eth0"]\nbackup = true',
            'down = "lte"',
        ),
        1,
    ):
        text += f'[[timeline]]\nat = "{at}s"\n{said}\n'
    scenario = loaded(tmp_path, text)
    watches: list[Watch] = []

    def watch_with(on_return: Callable[[str, int, int], None]) -> ReturnWatch:
        watches.append(Watch(on_return))
        return cast(ReturnWatch, watches[0])

    noted: list[dict[str, Any]] = []
    watch = BackupWatch(scenario, watch_with, noted.append)
    seen = []
    for action in scenario.timeline:
        watch.follow(action)
        seen.append((action.verb, sorted(watches[0].waiting)))
    assert seen == [
        ("set_priority", ["lte"]),
        ("set_priority", []),
        ("down", ["lte"]),
        ("up", []),
        ("set_priority", []),
        ("set_priority", ["lte"]),
        ("down", ["core", "lte"]),
    ]
    watches[0].on_return("core", 7_000_000_000, 7_200_000_000)
    assert watch.switches == [
        {"at_ns": 6_000_000_000, "cause": "lte down", "link": "core", "after_ns": 200_000_000}
    ]
    assert noted[0]["seen_ns"] == 7_200_000_000

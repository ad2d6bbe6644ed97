"""Setting interfaces down and up: never without knowing what brings them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mptcplab.remote.agent import interfaces
from mptcplab.remote.agent import main as agent
from mptcplab.remote.agent.journal import Command, CommandError

UP: list[Command] = [["ip", "link", "set", "dev", "eth1", "up"], ["ip", "route", "replace", "x"]]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test puts its own ``ip``, the only program that there is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "ip"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_host_without_ip_is_told_so(program: Path) -> None:
    assert not program.exists()
    with pytest.raises(CommandError, match="install iproute2"):
        interfaces.asked("address", "show")


def test_an_interface_of_which_not_all_is_known_has_no_way_back(program: Path) -> None:
    write(program, 'case "$*" in *route*) echo "Dump was interrupted" >&2; exit 1;; esac')
    with pytest.raises(CommandError, match="Dump was interrupted"):
        interfaces.restoring("eth1")


def test_routes_that_the_kernel_does_not_make_are_restored(program: Path) -> None:
    routes = (
        "10.2.0.0/24 proto 2 scope link src 10.2.0.1",
        "default via 10.2.0.2 metric 7 linkdown",
        "10.3.0.0/24 table 7102 scope link",
    )
    lines = "; ".join(f"echo '{route}'" for route in routes)
    write(program, f'case "$*" in *"-4 route"*) {lines};; esac')
    assert [" ".join(command) for command in interfaces.restoring("eth1")] == [
        "ip link set dev eth1 up",
        "ip -4 route replace 10.3.0.0/24 table 7102 scope link dev eth1",
        "ip -4 route replace default via 10.2.0.2 metric 7 dev eth1",
    ]


class Journal:
    """A journal that keeps what is noted."""

    def __init__(self) -> None:
        self.noted: list[list[Command]] = []

    def note(self, undoing: list[Command]) -> None:
        """Keep it."""
        self.noted.append(undoing)


class OneInterface(agent.Agent):
    """An agent of a host whose interface is set down and up, and may refuse."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("", None)
        self.kept = Journal()
        self.journal = self.kept  # type: ignore[assignment]
        self.guardian: Any = object()
        self.is_up = True
        self.refuses: str = ""
        monkeypatch.setattr(interfaces, "is_up", lambda _: self.is_up)
        monkeypatch.setattr(interfaces, "restoring", lambda _: list(UP))
        monkeypatch.setattr(agent, "execute", self.execute)

    def execute(self, command: Command) -> None:
        """Carry out a command on the interface."""
        if command[-1] == self.refuses:
            raise CommandError("refused")
        if "link" in command:
            self.is_up = command[-1] == "up"

    def asked(self, **step: str) -> bool:
        """Ask for a step, and say whether it was done."""
        return "error" not in self.answer({"do": "change", "id": 1, "steps": [step]})


def test_an_interface_that_comes_and_goes_is_written_down_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = OneInterface(monkeypatch)
    for _ in range(100):
        assert host.asked(down="eth1")
        assert not host.is_up
        assert host.asked(up="eth1")
        assert host.is_up
    assert host.kept.noted == [UP]


def test_an_interface_that_stayed_up_can_be_set_down_again(monkeypatch: pytest.MonkeyPatch) -> None:
    host = OneInterface(monkeypatch)
    host.refuses = "down"
    assert not host.asked(down="eth1")
    host.refuses = ""
    assert host.asked(down="eth1")
    assert not host.is_up


def test_an_interface_that_came_back_in_part_is_still_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = OneInterface(monkeypatch)
    assert host.asked(down="eth1")
    host.refuses = "x"
    assert not host.asked(up="eth1")
    monkeypatch.setattr(interfaces, "restoring", lambda _: UP[:1])  # its route is missing now
    assert host.asked(down="eth1")
    host.refuses = ""
    assert host.asked(up="eth1")
    assert host.kept.noted == [UP]

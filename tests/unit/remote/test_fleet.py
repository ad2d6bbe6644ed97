"""What is said of several hosts, and of connections that cannot be tried."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mptcplab.remote.errors import HostsError
from mptcplab.remote.fleet import Fleet
from mptcplab.remote.ssh import AgentLine, SshThread, Target
from mptcplab.scenario.load import load

TWO_HOSTS = """
duration = "1s"
[hosts.client]
ssh = "client.example"
[hosts.server]
ssh = "server.example"
[links.a]
between = ["client", "server"]
rate = "10Mb/s"
[flows.main]
from = "client"
to = "server"
"""


class Line:
    """The line to an agent that may refuse to let its host stand."""

    def __init__(self, name: str, *, refuses: bool) -> None:
        self.name = name
        self.refuses = refuses
        self.left: list[bool] = []

    def ask(self, do: str, **_values: Any) -> dict[str, Any]:
        """Answer, or refuse."""
        assert do == "stand"
        if self.refuses:
            raise HostsError(f"{self.name}: no")
        return {}

    def close(self, *, leave: bool) -> None:
        """Keep whether the agent was told to undo what it did."""
        self.left.append(leave)


def stood(tmp_path: Path, **refuses: bool) -> tuple[str, dict[str, bool]]:
    """Return the error of letting hosts stand, and which are told to undo everything at the end."""
    file = tmp_path / "two.toml"
    file.write_text(TWO_HOSTS)
    fleet = Fleet(load(file))
    lines = {name: Line(name, refuses=each) for name, each in refuses.items()}
    said = ""
    for name, line in lines.items():
        fleet.lines[name] = line  # type: ignore[assignment]
    try:
        fleet.leave_standing()
    except HostsError as error:
        said = str(error)
    for name in lines:
        fleet._close(fleet.lines[name])
    return said, {name: line.left == [True] for name, line in lines.items()}


def test_hosts_that_stand_are_left_as_they_are(tmp_path: Path) -> None:
    assert stood(tmp_path, client=False, server=False) == ("", {"client": False, "server": False})


def test_a_host_that_does_not_stand_undoes_everything_and_the_others_are_named(
    tmp_path: Path,
) -> None:
    said, undo = stood(tmp_path, client=False, server=True)
    assert said.startswith("server: no; still set up: client; to undo that: mptcplab hosts ")
    assert undo == {"client": False, "server": True}


def test_where_none_stands_all_is_undone(tmp_path: Path) -> None:
    assert stood(tmp_path, client=True, server=False) == (
        "client: no",
        {"client": True, "server": True},
    )


@pytest.mark.parametrize(
    ("config", "address"), [("Port nonsense\n", "127.0.0.1"), ("", f"{'a' * 70}.example")]
)
def test_what_ssh_cannot_even_try_is_one_error(
    config: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncssh")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(config)
    monkeypatch.setenv("HOME", str(tmp_path))
    with SshThread() as thread:
        line = AgentLine("client", Target(address), thread)
        with closing(line), pytest.raises(HostsError, match=r"^client: no SSH connection to "):
            line.open()

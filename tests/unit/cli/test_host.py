"""What ``mptcplab host`` takes for a peer, and its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.cli.host import HostError, split_peer
from mptcplab.cli.main import main


@pytest.mark.parametrize(
    ("text", "name", "port"),
    [
        ("server", "server", 5201),
        ("server:80", "server", 80),
        ("10.0.0.1:443", "10.0.0.1", 443),
        ("fd00::1", "fd00::1", 5201),
        ("[fd00::1]", "fd00::1", 5201),
        ("[fd00::1]:80", "fd00::1", 80),
    ],
)
def test_peers(text: str, name: str, port: int) -> None:
    assert split_peer(text) == (name, port)


@pytest.mark.parametrize(
    "text", ["server:", "server:0", "server:65536", "server:http", ":80", "[fd00::1]80", "[fd00"]
)
def test_what_is_no_peer(text: str) -> None:
    with pytest.raises(HostError, match="is no peer; expected NAME, NAME:PORT"):
        split_peer(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "0"], "--listen 0: expected a port from 1 to 65535"),
        (["--listen", "5201", "server"], "--listen goes alone"),
        (["--listen", "5201", "--json"], "--listen goes alone"),
        (["--wait", "0s"], "--wait 0s: expected more than 0"),
        (["--wait", "soon"], "--wait: "),
        (["no such host.invalid"], "expected a name or an address"),
        (["--capture", "gone.pcap"], "gone.pcap: No such file"),
    ],
)
def test_errors_are_one_line_and_status_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["host", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1

"""A run started in a stranger's folder executes nothing that lies there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.linux.two_links import scenario

from mptcplab.linux.testbed import run
from mptcplab.results.run import Run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

ONE_LINK = """
duration = "1s"
interval = "250ms"
hosts.a.stack = "ours"
hosts.b = {}
[links.l]
between = ["a", "b"]
rate = "10Mb/s"
rtt = "10ms"
[flows.there]
from = "a"
to = "b"
[flows.back]
from = "b"
to = "a"
"""


def test_modules_of_the_current_folder_stay_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    for name in ("json", "struct", "socket", "numpy", "mptcplab"):
        marker = str(tmp_path / f"ran-{name}")
        (folder / f"{name}.py").write_text(f"open({marker!r}, 'w').close()\n")
    monkeypatch.chdir(folder)
    done = Run(run(scenario(tmp_path, ONE_LINK), tmp_path / "run"))
    assert not list(tmp_path.glob("ran-*"))
    assert all(end["bytes"] for end in done.metadata["flows"])

"""GridFTP between hosts of a lab: one file, by each way of moving it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.linux.two_links import TWO_LINKS, faults, finished

from mptcplab.linux.testbed import run
from mptcplab.results.run import Run
from mptcplab.scenario import load

NEEDED = pytest.mark.program("globus-gridftp-server", "globus-url-copy", "mptcpize")
FILE = TWO_LINKS.replace('"3s"', '"30s"') + 'application = "gridftp"\nsize = "3MB"\n'


def sent(done: Run) -> dict[str, int]:
    """How much each link has carried towards the receiver (bytes)."""
    counts: dict[str, int] = {}
    for row in done.rows("links"):
        if row["direction"] == "forward":
            counts[row["link"]] = counts.get(row["link"], 0) + row["tx_bytes"]
    return counts


@NEEDED
@pytest.mark.parametrize(
    ("keys", "links"),
    [
        ('protocol = "tcp"\ncongestion = "reno"\n', {"one"}),
        ("striped = true\nstreams = 2\n", {"one", "two"}),
        ('client = "bob"\n', {"one", "two"}),
    ],
    ids=["plain upload", "striped", "download over MPTCP"],
)
def test_a_file_arrives_whole(tmp_path: Path, keys: str, links: set[str]) -> None:
    done = finished(tmp_path, FILE + keys)
    assert faults(done) == []
    (flow,) = done.metadata["flows"]
    assert flow["intact"] is True
    assert flow["bytes"] == 3_000_000
    assert sum(row["bytes"] for row in done.rows("flows")) == 3_000_000
    for link, count in sent(done).items():
        assert count > 300_000 if link in links else count < 100_000, (link, count)
    assert {row["link"] for row in done.rows("subflows")} == links
    many = max(row["subflow"] for row in done.rows("subflows"))
    assert many == (3 if "streams" in keys else len(links) - 1)
    each = [(row["time_ns"], row["host"]) for row in done.rows("connections")]
    assert len(each) == len(set(each))


@NEEDED
def test_a_file_that_came_to_harm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mptcplab.linux.traffic import file_check

    def harmed(path: Path, stream: int, size_bytes: int) -> None:
        path.write_bytes(bytes(size_bytes))

    monkeypatch.setattr(file_check, "write_file", harmed)  # before the testbed forks
    done = finished(tmp_path, FILE.replace("3MB", "100KB"))
    assert any("(block 0, offset 14) is wrong" in fault for fault in faults(done))
    assert done.metadata["flows"][0]["intact"] is False


@NEEDED
def test_one_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(FILE.replace("3MB", "90MB") + "striped = true\n")
    argv = [sys.executable, "-m", "mptcplab", "run", str(file), "--on", "linux"]
    argv += ["--out", str(tmp_path / "out")]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
        deadline_s = time.monotonic() + 20
        while len(servers_of(tmp_path)) < 7 and time.monotonic() < deadline_s:
            time.sleep(0.02)
        seen = servers_of(tmp_path)
        command.kill()
    assert len(seen) == 7  # two data nodes and a front end on each host, and the client
    deadline_s = time.monotonic() + 5
    while servers_of(tmp_path) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert servers_of(tmp_path) == []


def servers_of(folder: Path) -> list[int]:
    """GridFTP's programs whose output goes to a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text()
            if name.startswith("globus-") and str(folder) in str((process / "fd/1").readlink()):
                found.append(int(process.name))
    return found


@pytest.mark.program("getent")
def test_the_names_of_hosts_resolve(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(TWO_LINKS + 'application = "command"\ncommand = "getent ahostsv4 bob"\n')
    done = Run(run(load(file, plugins=True), tmp_path / "run"))
    assert faults(done) == []
    said = (done.folder / "main.txt").read_text()
    assert {line.split()[0] for line in said.splitlines()} == {"10.0.1.2", "10.0.2.2"}

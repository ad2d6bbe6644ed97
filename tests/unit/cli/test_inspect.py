"""``mptcplab inspect`` as a user calls it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mptcplab.cli.main import main

CAPTURES = Path(__file__).parents[2] / "captures"
HANDOVER = CAPTURES / "handover.pcap.gz"


def _said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "names no capture"),
        (["-i", "lo", "x.pcap"], "goes with no capture file"),
        (["--follow", "a.pcap", "b.pcap"], "one growing capture"),
        (["-c", "5", "x.pcap"], "goes with -i or --follow"),
        (["--duration", "5s", "x.pcap"], "goes with -i or --follow"),
        (["-c", "0", "--follow", "x.pcap"], "expected 1 or more"),
        (["--limit", "0", "x.pcap"], "expected 1 or more"),
        (["--figures-of", "0", "x.pcap"], "expected 1 or more"),
        (["--follow", "x.pcap", "--duration", "soon"], "--duration"),
        (["--follow", "x.pcap", "--tables", "t"], "made of a finished capture"),
        (["-i", "no-such-interface"], "there is no such interface"),
    ],
)
def test_arguments_that_do_not_fit(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    status, out, err = _said(capsys, *arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert complaint in line


def test_a_small_capture_starts_no_threads_and_imports_only_what_it_needs() -> None:
    """The threads are those of numpy's linear algebra."""
    needless = ("difflib", "mmap", "mptcplab.trace.packet_filter", "pyarrow", "rich")
    code = f"""if True:
        import contextlib, io, os, sys
        from mptcplab.cli.main import main
        with contextlib.redirect_stdout(io.StringIO()):
            main(["inspect", {str(HANDOVER)!r}])
        threads = len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 1
        print(threads, sorted(set({needless!r}) & set(sys.modules)))
    """
    ours = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    program = [sys.executable, "-c", code]
    told = subprocess.run(program, capture_output=True, text=True, check=True, env=ours)
    assert told.stdout == "1 []\n"


def test_a_table_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _said(capsys, HANDOVER, "--connections", "--sort", "rate")
    assert status == 0
    assert out.startswith("1 connection, 1 complete")


def test_packets_of_one_connection(capsys: pytest.CaptureFixture[str]) -> None:
    _, every, _ = _said(capsys, HANDOVER, "--packets")
    _, mine, _ = _said(capsys, HANDOVER, "--packets", "--connection", 0)
    assert every == mine
    assert len(every.splitlines()) == 4417


def test_written_packets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "joins.pcap"
    status, out, err = _said(capsys, HANDOVER, "--filter", "subtype == join", "-w", path)
    assert (status, out) == (0, "")
    assert err == f"wrote 3 packets to {path} (pcap, microseconds)\n"
    _, out, _ = _said(capsys, path, "--json")
    assert json.loads(out)["packets"] == 3


@pytest.mark.slow
def test_figures_are_bounded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = [CAPTURES / f"{name}.pcap.gz" for name in ("abort", "addresses", "handover")]
    status, _, err = _said(capsys, *paths, "--figures", tmp_path, "--figures-of", 1)
    assert status == 0
    assert "of the 1 connections with the most data; --figures-of" in err
    assert len(list(tmp_path.glob("*.png"))) == 4


def _follow(path: Path, *arguments: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-u", "-m", "mptcplab", "inspect", "--follow", str(path)]
    return subprocess.Popen(
        [*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_growing_file_is_explained_when_it_is_interrupted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = gzip.decompress(HANDOVER.read_bytes())
    path = tmp_path / "grows.pcap"
    path.write_bytes(data[:100_001])  # ends within a packet
    process = _follow(path)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "10.0.1.1:60766 opens an MPTCP connection" not in first or "packet 1" in first
    with path.open("ab") as file:
        file.write(data[100_001:])
    line = first
    while "subflow lost" not in line:  # printed while it runs
        line = process.stdout.readline()
        assert line
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    _, whole, _ = _said(capsys, HANDOVER)
    assert out[out.index("grows.pcap") :].splitlines()[1:] == whole.splitlines()[1:]


@pytest.mark.slow
def test_a_followed_file_ends_after_so_many_packets(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(gzip.decompress(HANDOVER.read_bytes()))
    target = tmp_path / "first.pcap"
    process = _follow(path, "-c", "300", "--packets", "-w", str(target))
    out, _ = process.communicate(timeout=60)
    _, whole, _ = _said(capsys, path, "--packets")
    assert out.splitlines() == whole.splitlines()[:300]
    _, out, _ = _said(capsys, target, "--json")
    assert json.loads(out)["packets"] == 300


@pytest.mark.slow
def test_a_followed_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(gzip.decompress(HANDOVER.read_bytes()))
    process = _follow(path)
    assert process.stdout is not None
    process.stdout.readline()
    path.write_bytes(b"")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "became shorter while it was followed" in err


def test_compressed_files_cannot_be_followed(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = _said(capsys, "--follow", HANDOVER)
    assert status == 2
    assert "a compressed file cannot be followed" in err

"""Captures that come by other ways than a plain file: pipes, FIFOs, compressed streams."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zstandard

from mptcplab import trace
from mptcplab.trace.files.opening import kept
from mptcplab.trace.packets import packet_lines

CAPTURE = Path(__file__).parents[3] / "captures" / "abort.pcap.gz"
DATA = gzip.decompress(CAPTURE.read_bytes())

PACKED = {
    "plain": DATA,
    "gzip": gzip.compress(DATA, mtime=0),
    "xz": lzma.compress(DATA),
    "bzip2": bz2.compress(DATA),
    "zstd": zstandard.compress(DATA),
}


def _fifo(folder: Path, data: bytes) -> Path:
    """A FIFO into which a thread writes, a little at a time."""
    path = folder / "fifo"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for first in range(0, len(data), 501):
                file.write(data[first : first + 501])

    threading.Thread(target=write, daemon=True).start()
    return path


def _run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = [sys.executable, "-m", "mptcplab", "inspect", *arguments]
    return subprocess.run(program, input=stdin, capture_output=True, check=False)


@pytest.mark.parametrize("form", PACKED)
def test_a_fifo_reads_as_the_file(tmp_path: Path, form: str) -> None:
    capture = trace.open(_fifo(tmp_path, PACKED[form]))
    whole = trace.open(CAPTURE)
    assert capture.packets == whole.packets
    assert [subflow.bytes for subflow in capture.subflows] == [
        subflow.bytes for subflow in whole.subflows
    ]
    assert capture.malformed == []


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "zstd"])
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input(form: str, name: str) -> None:
    """What needs the packets twice works as well."""
    done = _run("--packets", name, stdin=PACKED[form])
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == list(packet_lines(trace.open(CAPTURE), None))


def test_a_pipe_is_there_once(tmp_path: Path) -> None:
    capture = trace.open(_fifo(tmp_path, DATA))
    with pytest.raises(trace.CaptureError, match="came through a pipe"):
        list(packet_lines(capture, None))


def test_streams_are_kept_where_they_are_read_twice(tmp_path: Path) -> None:
    with kept([_fifo(tmp_path, PACKED["gzip"])], again=True) as (path,):
        capture = trace.open(path)
        assert list(packet_lines(capture, None)) == list(packet_lines(trace.open(CAPTURE), None))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "standard input: an empty file, expected a pcap or pcapng file"),
        (b"#!/bin/sh\necho", "standard input: not a capture"),
        (DATA[:20], "standard input: the pcap file header is cut short"),
        (DATA[:30], "standard input: holds no whole packet: the file ends in the middle"),
        (PACKED["gzip"][:9], "standard input: the compressed file is broken here"),
        (PACKED["xz"][:20], "standard input: the compressed file is broken here"),
    ],
)
def test_a_stream_that_is_no_capture_gets_one_line(data: bytes, complaint: str) -> None:
    done = _run("-", stdin=data)
    assert done.returncode == 2
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert complaint in line


def test_what_comes_before_broken_compression_is_read(tmp_path: Path) -> None:
    data = gzip.compress(DATA + os.urandom(5000))
    capture = trace.open(_fifo(tmp_path, data[:-4000]))
    assert capture.packets == trace.open(CAPTURE).packets
    assert capture.malformed

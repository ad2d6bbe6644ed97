"""Packets per second of ``mptcplab inspect`` beside those of other tools that are installed.

    python bench/trace_speed.py [CAPTURE]

Without a capture one of about two million packets is made first (root, tcpdump, iperf3, mptcpize,
mergecap): kernel MPTCP over two links of 500 Mb/s, segmentation offload off, snap length 128.
Everything is measured in one run, each tool several times in turn; medians and ratios are printed.
The peers are capinfos (which only counts records), tcpdump, tshark, and mptcptrace where it is
built; ``--packets`` is to be compared with tcpdump.  The start-up is ``inspect`` of a few packets.
Our modules are compiled to bytecode before, as installing a package does.
"""

from __future__ import annotations

import compileall
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mptcplab

SECONDS = 20
ROUNDS = 3

TSHARK_FIELDS = (
    "frame.time_epoch", "ip.src", "ip.dst", "tcp.srcport", "tcp.dstport", "tcp.seq_raw",
    "tcp.ack_raw", "tcp.len", "tcp.window_size_value", "tcp.options.mptcp.subtype",
    "tcp.options.mptcp.recvtok", "tcp.options.mptcp.sendkey", "tcp.options.mptcp.rawdataseqno",
    "tcp.options.mptcp.rawdataack", "tcp.options.mptcp.subflowseqno",
    "tcp.options.mptcp.datalvllen",
)  # fmt: skip

OURS = [sys.executable, "-m", "mptcplab", "inspect"]
SMALL = Path(__file__).parents[1] / "tests" / "captures" / "abort.pcap.gz"
ONCE = ("tshark",)
"""Tools so slow that one turn is enough."""


def make_capture(path: Path) -> None:
    """Capture two iperf3 connections over two links, all of it in namespaces of our own."""
    a, b = f"bench-a{os.getpid()}", f"bench-b{os.getpid()}"

    def ip(*words: str) -> None:
        subprocess.run(("ip", *words), check=True)

    def start(name: str, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ("ip", "netns", "exec", name, *words),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    running = []
    try:
        for name in (a, b):
            ip("netns", "add", name)
            ip("-n", name, "mptcp", "limits", "set", "subflows", "4", "add_addr_accepted", "4")
        for n in (1, 2):
            ip("link", "add", f"v{n}", "netns", a, "type", "veth", "peer", f"v{n}", "netns", b)
            for end, name in ((1, a), (2, b)):
                ip("-n", name, "addr", "add", f"10.0.{n}.{end}/24", "dev", f"v{n}")
                ip("-n", name, "link", "set", f"v{n}", "up")
                for command in (
                    ("ethtool", "-K", f"v{n}", "tso", "off", "gso", "off", "gro", "off"),
                    (
                        *("tc", "qdisc", "add", "dev", f"v{n}", "root", "tbf"),
                        *("rate", "500mbit", "burst", "128kb", "latency", "30ms"),
                    ),
                ):
                    start(name, *command).wait()
        ip("-n", a, "mptcp", "endpoint", "add", "10.0.2.1", "dev", "v2", "subflow")
        parts = [path.with_suffix(f".{n}") for n in (1, 2)]
        for n, part in enumerate(parts, 1):
            running.append(
                start(a, "tcpdump", "-B", "65536", "-s", "128", "-i", f"v{n}", "-w", str(part))
            )
        running.append(start(b, "mptcpize", "run", "iperf3", "-s", "-1"))
        time.sleep(1)
        client = ("mptcpize", "run", "iperf3", "-c", "10.0.1.2", "-t", str(SECONDS), "-P", "2")
        start(a, *client).wait(SECONDS + 20)
        time.sleep(2)
        for process in running:
            process.terminate()
            process.wait(10)
        subprocess.run(("mergecap", "-F", "pcap", "-w", str(path), *map(str, parts)), check=True)
        for part in parts:
            part.unlink()
    finally:
        for process in running:
            process.kill()
        for name in (a, b):
            subprocess.run(("ip", "netns", "del", name), check=False)


def timed(words: list[str], folder: str) -> tuple[float, float, float]:
    """Run a command in ``folder``, where it may leave files.

    Returns (seconds, seconds of processor time, peak memory of the largest child so far in MiB).
    """
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - begun, used, after.ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        path = Path(sys.argv[1]).resolve()
    else:
        path = Path(tempfile.gettempdir()) / "mptcplab-bench.pcap"
        if not path.exists():
            make_capture(path)
    compileall.compile_dir(Path(mptcplab.__file__).parent, quiet=1)
    ours = [*OURS, str(path)]
    said = subprocess.run(ours, check=True, capture_output=True, text=True).stdout
    packets = int(said.split()[1].replace(",", ""))
    commands = {"mptcplab": ours, "mptcplab --packets": [*ours, "--packets"]}
    commands["mptcplab, start-up"] = [*OURS, str(SMALL)]
    if shutil.which("capinfos"):
        commands["capinfos -c"] = ["capinfos", "-c", str(path)]
    if shutil.which("tcpdump"):
        commands["tcpdump -nn"] = ["tcpdump", "-nn", "-r", str(path)]
    if shutil.which("mptcptrace"):
        commands["mptcptrace"] = ["mptcptrace", "-f", str(path), "-s", "-w", "2"]
        graphs = ["-s", "-S", "-G", "250", "-r", "2", "-F", "3", "-w", "2", "-q", "100", "-a"]
        commands["mptcptrace, all graphs"] = ["mptcptrace", "-f", str(path), *graphs]
    if shutil.which("tshark"):
        fields = [word for field in TSHARK_FIELDS for word in ("-e", field)]
        commands["tshark"] = ["tshark", "-n", "-r", str(path), "-T", "fields", *fields]
    times: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, float] = {}
    for turn in range(ROUNDS):
        for name, words in commands.items():
            if name in ONCE and turn:
                continue
            with tempfile.TemporaryDirectory() as folder:
                seconds, used, peak = timed(words, folder)
            times[name].append(seconds)
            processor[name].append(used)
            memory.setdefault(name, peak)
    print(f"{path}: {packets:,} packets, {path.stat().st_size:,} bytes")
    base = statistics.median(times["mptcplab"])
    for name, each in times.items():
        median = statistics.median(each)
        used = statistics.median(processor[name])
        print(
            f"{name:22} {packets / median:12,.0f} packets/s  {median:7.2f} s  cpu {used:6.2f} s  "
            f"mptcplab is {median / base:5.2f} times as fast; peak so far {memory[name]:.0f} MiB"
        )


if __name__ == "__main__":
    main()

"""Our TCP against this machine's kernel on one emulated link: transfer and recovery times.

One connection at a time over a link of 50 Mb/s and a round trip of 20 ms, whose queue holds a
bandwidth-delay product. What is measured is the time from the call that opens the connection until
its receiver has the last byte. The kernel sends over the TAP emulator, our stack over the same link
model in virtual time. The packets that are lost are named by number, so that both lose the same:
the 150th one, ten of the 150th to the 168th, or the last one or three of all.

    python bench/tcp_today.py [--congestion NAME ...] [--protocol NAME ...] [--case TEXT]
                              [--repetitions N] [--rate RATE] [--rtt MS] [--kernel | --ours]

Needs root for the kernel's half. Prints a table, for `docs/validation/tcp.md`.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from pathlib import Path
from statistics import median

from bench.equilibria.hosts import PORT, Laboratory

from mptcplab.linux.drivers.tap import TapDriver
from mptcplab.linux.lab.build import build
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.topology import Channel, Host, Interface, InterfaceEnd, Link, Nic, Topology
from mptcplab.network.topology import Queue as LinkQueue
from mptcplab.simulated.build import TRAINS_PER_WINDOW
from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers import InitialOnly
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt
from mptcplab.units import parse_rate

IPPROTO_MPTCP = 262  # include/uapi/linux/in.h
MS = 1_000_000
SECOND = 1_000_000_000
LEFT, RIGHT = "10.98.0.1", "10.98.0.2"
FIRST_LOST = 150
TAIL_BYTES = 97_500
"""The last packet of it is neither full nor small. The round trip of a small one is less than the
least known, and RACK then takes a probe that arrives for what it repeats (RFC 8985 section 6.2,
step 2): a timeout follows, or does not, as jitter has it."""
ENDING_S = 0.15
"""For so long the end of the connection before may still be on the link."""
SETTINGS = {
    "net/ipv4/tcp_no_metrics_save": "1",
    "net/ipv6/conf/all/disable_ipv6": "1",
}
"""No connection learns from the one before, and the link carries nothing else."""


@dataclass(frozen=True)
class Case:
    """One transfer: how much, and which of its packets are lost, or how many of the last."""

    name: str
    size_bytes: int
    lost: tuple[int, ...] = ()
    lost_tail: int = 0

    def lost_packets(self, packets: int) -> tuple[int, ...]:
        """Return the numbers of the packets to lose, of so many that a whole transfer takes."""
        return self.lost or tuple(range(packets - self.lost_tail, packets))


CASES = (
    Case("14 kB", 14_000),
    Case("100 kB", 100_000),
    Case("1 MB", 1_000_000),
    Case("10 MB", 10_000_000),
    Case("1 MB, one loss", 1_000_000, (FIRST_LOST,)),
    Case("1 MB, ten losses", 1_000_000, tuple(range(FIRST_LOST, FIRST_LOST + 20, 2))),
    Case("97.5 kB, last packet lost", TAIL_BYTES, lost_tail=1),
    Case("97.5 kB, last three lost", TAIL_BYTES, lost_tail=3),
)


@dataclass(frozen=True)
class LinkUnderTest:
    """The link."""

    rate_bps: int
    rtt_ns: int

    def channel(self) -> ChannelParameters:
        """Return one direction of it."""
        product = self.rate_bps * self.rtt_ns // (8 * SECOND)
        return ChannelParameters(self.rate_bps, self.rtt_ns // 2, queue_bytes=product)


class KernelHosts:
    """Two namespaces, and the TAP link between them."""

    def __init__(self, path: LinkUnderTest) -> None:
        hosts, ends = [], []
        for name, address in (("left", LEFT), ("right", RIGHT)):
            interface = Interface("eth0", "eth0", None, (ip_interface(f"{address}/24"),))
            hosts.append(Host(name, (Nic("eth0"),), (interface,)))
            ends.append(InterfaceEnd(name, "eth0"))
        asked = path.channel()
        channel = Channel(
            asked.rate_bps, asked.delay_ns, queue=LinkQueue(limit_bytes=asked.queue_bytes)
        )
        link = Link("link", ends[0], ends[1], channel, channel, driver="tap")
        self._plumbing = build(Topology("two", tuple(hosts), (), (link,)), {}, None, [], 1)
        driver = self._plumbing.drivers["link"]
        assert isinstance(driver, TapDriver)
        self._emulator = driver.emulator
        for name in ("left", "right"):
            with self._plumbing.hosts[name].entered():
                for setting, value in SETTINGS.items():
                    Path("/proc/sys", setting).write_text(value)

    def socket(self, host: str, protocol: str, congestion: str) -> socket.socket:
        """Return a TCP or MPTCP socket on a host."""
        number = IPPROTO_MPTCP if protocol == "mptcp" else socket.IPPROTO_TCP
        with self._plumbing.hosts[host].entered():
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, number)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return made

    def transfer(
        self, protocol: str, congestion: str, size_bytes: int, lost: tuple[int, ...]
    ) -> tuple[int, int]:
        """Send so much; return how long it took (ns), and how many packets it was."""
        self._emulator.configure(replace(self._emulator.forward, lost_packets=()))
        time.sleep(ENDING_S)
        with self.socket("right", protocol, congestion) as listener:
            listener.bind((RIGHT, PORT))
            listener.listen()
            sender = self.socket("left", protocol, congestion)
            arrived: list[int] = []
            thread = threading.Thread(
                target=_receive, args=(listener, size_bytes, arrived, self._offered_packets)
            )
            content = bytes(size_bytes)
            before = self._offered_packets()
            self._emulator.configure(replace(self._emulator.forward, lost_packets=lost))
            thread.start()
            start_ns = time.monotonic_ns()
            with sender:
                sender.connect((RIGHT, PORT))
                sender.sendall(content)
                sender.recv(1)
            thread.join()
        at_ns, packets = arrived
        return at_ns - start_ns, packets - before

    def _offered_packets(self) -> int:
        return self._emulator.read().forward.counters["offered_packets"]

    def close(self) -> None:
        """Remove them."""
        self._plumbing.close()


def _receive(
    listener: socket.socket, size_bytes: int, arrived: list[int], offered: Callable[[], int]
) -> None:
    """Read so much of a connection, note when that was, count packets, and say so by one byte."""
    connection, _ = listener.accept()
    buffer = bytearray(1 << 18)
    with connection:
        left = size_bytes
        while left:
            left -= connection.recv_into(buffer)
        arrived += (time.monotonic_ns(), offered())
        connection.sendall(b"!")
        connection.recv(1)


@contextmanager
def kernel_hosts(path: LinkUnderTest) -> Iterator[KernelHosts]:
    """Have two hosts of the kernel's for a while."""
    hosts = KernelHosts(path)
    try:
        yield hosts
    finally:
        hosts.close()


def settings(protocol: str, congestion: str) -> StackConfig:
    """Return our stack's settings: its defaults."""
    control = CONGESTION_CONTROLS[congestion]
    config = StackConfig(control, LowestRtt, InitialOnly)
    config.mptcp = protocol == "mptcp"
    config.trains_per_window = TRAINS_PER_WINDOW
    return config


def simulate(
    path: LinkUnderTest,
    protocol: str,
    congestion: str,
    size_bytes: int,
    lost: tuple[int, ...],
    seed: int,
) -> tuple[int, int]:
    """Send so much with our stack; return how long it took (ns), and how many packets it was."""
    laboratory = Laboratory(seed)
    config = settings(protocol, congestion)
    client, server = laboratory.host(config), laboratory.host(config)
    left, right = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    forth = laboratory.wire(replace(path.channel(), lost_packets=lost))
    client.wires[right] = forth
    server.wires[left] = laboratory.wire(path.channel())
    client.stack.add_address(left, 1)
    server.stack.add_address(right, 1)
    server.stack.listen(PORT)
    connection = laboratory.connect(client, server, config)
    unwritten = size_bytes
    received = 0
    arrived_ns = 0

    def fill(told: Connection, event: events.Event) -> None:
        nonlocal unwritten
        if told is connection and isinstance(event, events.DataWritable) and unwritten:
            unwritten -= connection.write_length(unwritten)

    def read(told: Connection, event: events.Event) -> None:
        nonlocal received, arrived_ns
        if isinstance(event, events.DataReadable):
            received += told.read_length()
            if received == size_bytes and not arrived_ns:
                arrived_ns = laboratory.loop.now_ns

    client.on_event = fill
    server.on_event = read
    client.pump()
    while not arrived_ns and laboratory.loop.now_ns < 60 * SECOND:
        laboratory.loop.run(laboratory.loop.now_ns + 10 * MS)
    if not arrived_ns:
        raise RuntimeError(f"{received} of {size_bytes} bytes arrived in a minute")
    return arrived_ns, forth.channel.counters.offered_packets


def measure(
    case: Case, run: Callable[[tuple[int, ...], int], tuple[int, int]], repetitions: int
) -> float:
    """Return the median time of a case (ms)."""
    lost = case.lost
    if case.lost_tail:
        lost = case.lost_packets(run((), 0)[1])
    return median(run(lost, seed)[0] for seed in range(repetitions)) / MS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--congestion", nargs="+", default=["cubic", "reno", "bbr"])
    parser.add_argument("--protocol", nargs="+", default=["tcp", "mptcp"])
    parser.add_argument("--case", default="")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mb/s"))
    parser.add_argument("--rtt", type=float, default=20.0)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--kernel", action="store_true")
    only.add_argument("--ours", action="store_true")
    asked = parser.parse_args()
    path = LinkUnderTest(asked.rate, int(asked.rtt * MS))
    print("| congestion | protocol | transfer | kernel, ms | ours, ms | difference |")
    print("|---|---|---|---|---|---|")
    for congestion in asked.congestion:
        for protocol in asked.protocol:
            for case in CASES:
                if asked.case in case.name:
                    print(_row(path, congestion, protocol, case, asked), flush=True)


def _row(
    path: LinkUnderTest, congestion: str, protocol: str, case: Case, asked: argparse.Namespace
) -> str:
    def ours(lost: tuple[int, ...], seed: int) -> tuple[int, int]:
        return simulate(path, protocol, congestion, case.size_bytes, lost, seed)

    kernel_ms = ours_ms = 0.0
    if not asked.kernel:
        ours_ms = measure(case, ours, 1)
    if not asked.ours:
        with kernel_hosts(path) as hosts:
            hosts.transfer(protocol, congestion, 1000, ())  # the hosts learn their addresses

            def kernel(lost: tuple[int, ...], _seed: int) -> tuple[int, int]:
                return hosts.transfer(protocol, congestion, case.size_bytes, lost)

            kernel_ms = measure(case, kernel, asked.repetitions)
    both = kernel_ms and ours_ms
    difference = f"{ours_ms / kernel_ms - 1:+.1%}" if both else ""
    return (
        f"| {congestion} | {protocol} | {case.name} | {kernel_ms:.1f} | {ours_ms:.1f} |"
        f" {difference} |"
    )


if __name__ == "__main__":
    main()

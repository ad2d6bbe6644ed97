"""Are emulated links what they were asked to be?

Builds two hosts with one link for each measurement, sends datagrams, and judges what arrives by
the receiving kernel's own time stamps: nothing here is taken from the link's own counters, except
what waits in a queue. Prints a table and exits with 1 when a value is out of tolerance.

    python bench/link_fidelity.py [--driver tap|kernel|netem ...] [--quick] [--attempts N]

Rates are within 1 % at 10, 100, 500 and 1,000 Mb/s; the added delay is right within 0.2 ms for 99
of 100 packets; loss lies in the binomial interval of 99.9 %; a queue holds exactly what it should;
one TAP link carries 8 Gb/s. `steal` is the CPU time that the hypervisor took away meanwhile: it
makes timing worse and never better, so a measurement out of tolerance is repeated, up to
`--attempts` times, and the last column says how often it was made.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from random import Random
from types import TracebackType

from mptcplab.linux.drivers.driver import LinkDriver
from mptcplab.linux.emulator import open_tap
from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.capabilities import netem_works, tap_works
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.lab.build import build
from mptcplab.network.topology import (
    Channel,
    Host,
    Interface,
    InterfaceEnd,
    Link,
    Nic,
    Queue,
    Topology,
)

MBPS = 1_000_000
MS = 1_000_000
RATES_MBPS = (10, 100, 500, 1000)
DELAYS_MS = (1.0, 16.65, 101.0)
LOSSES = (0.001, 0.01, 0.1)
RATE_TOLERANCE = 0.01
DELAY_TOLERANCE_MS = 0.2
THROUGHPUT_BPS = 8e9
INTERVAL = 3.29  # standard deviations: 99.9 % of a normal distribution

DATAGRAM_BYTES = 1472
FRAME_BYTES = DATAGRAM_BYTES + 8 + 20 + 14
PORT = 5001
LEFT, RIGHT = "10.99.0.1", "10.99.0.2"

# include/uapi/linux/udp.h, asm-generic/socket.h
UDP_SEGMENT = 103
UDP_GRO = 104
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
SO_SNDBUFFORCE = 32
BUFFER_BYTES = 256 << 20


@dataclass
class Reception:
    """What arrived: when (ns, real-time clock, by the kernel), and how many datagrams at once."""

    offered_packets: int = 0
    arrivals: list[tuple[int, int]] = field(default_factory=list)

    @property
    def packets(self) -> int:
        """Datagrams that arrived."""
        return sum(count for _, count in self.arrivals)

    def rate_bps(self, skip: float) -> float:
        """Frames per second on the wire, without the first `skip` of the arrivals."""
        kept = self.arrivals[int(len(self.arrivals) * skip) :]
        count = sum(count for _, count in kept[1:])  # the first one marks the start
        return count * FRAME_BYTES * 8e9 / (kept[-1][0] - kept[0][0])


class TwoHosts:
    """Two hosts and the link between them, with a sending and a receiving UDP socket."""

    def __init__(self, driver: str, forward: Channel) -> None:
        ends = []
        hosts = []
        for name, address in (("left", LEFT), ("right", RIGHT)):
            interface = Interface("eth0", "eth0", None, (ip_interface(f"{address}/24"),))
            hosts.append(Host(name, (Nic("eth0"),), (interface,)))
            ends.append(InterfaceEnd(name, "eth0"))
        link = Link("link", ends[0], ends[1], forward, Channel(), driver=driver)
        self.plumbing = build(Topology("two", tuple(hosts), (), (link,)), {}, None, [], 1)
        self.driver: LinkDriver = self.plumbing.drivers["link"]
        self.sender = self._socket("left")
        self.receiver = self._socket("right")
        self.receiver.bind((RIGHT, PORT))
        self.receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sender.connect((RIGHT, PORT))
        self._introduce()

    def _socket(self, host: str) -> socket.socket:
        with self.plumbing.hosts[host].entered():
            found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with suppress(PermissionError):
            found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            found.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
        return found

    def _introduce(self) -> None:
        """Let the hosts learn each other's hardware address."""
        for _ in range(20):
            self.sender.send(b"hello")
            if select.select([self.receiver], [], [], 1.0)[0]:
                break
        self.receive(idle_s=0.25)

    def offer_at_once(self, packets: int) -> None:
        """Hand over single packets as fast as possible."""
        payload = bytes(DATAGRAM_BYTES)
        for _ in range(packets):
            self.sender.send(payload)

    def receive(self, idle_s: float) -> Reception:
        """What arrives until nothing more does."""
        received = Reception()
        while select.select([self.receiver], [], [], idle_s)[0]:
            self.take(received)
        return received

    def take(self, received: Reception) -> bytes:
        """Note what one call of `recvmsg` brings."""
        data, ancillary, _, _ = self.receiver.recvmsg(65536, 256)
        stamp_ns, size = 0, len(data)
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("=qq", value[:16])
                stamp_ns = seconds * 1_000_000_000 + nanoseconds
            elif (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
                (size,) = struct.unpack_from("=i", value)
        received.arrivals.append((stamp_ns, -(-len(data) // max(size, 1))))
        return data

    def __enter__(self) -> TwoHosts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.sender.close()
        self.receiver.close()
        self.plumbing.close()


def stream(hosts: TwoHosts, rate_bps: int, seconds: float) -> Reception:
    """Send trains of datagrams at a constant rate; returns what arrived."""
    packets = max(1, min(40, rate_bps // (200 * FRAME_BYTES * 8)))
    gap_ns = packets * FRAME_BYTES * 8 * 10**9 // rate_bps
    trains = max(1, int(seconds * 1e9) // gap_ns)
    payload = bytes(DATAGRAM_BYTES * packets)
    if packets > 1:
        hosts.sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, DATAGRAM_BYTES)

    def send() -> None:
        due_ns = time.monotonic_ns()
        for _ in range(trains):
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns > 100_000:
                time.sleep(wait_ns * 1e-9)
            hosts.sender.send(payload)
            due_ns += gap_ns

    thread = threading.Thread(target=send)
    thread.start()
    received = hosts.receive(idle_s=0.5)
    thread.join()
    received.offered_packets = trains * packets
    return received


@contextmanager
def before_others() -> Iterator[None]:
    """Run before ordinary processes, where that is allowed: a probe whose sender is put aside
    between looking at the clock and sending measures the machine and not the link.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@before_others()
def one_way_delays(hosts: TwoHosts, probes: int) -> list[int]:
    """Delays (ns) of single packets sent 1 to 5 ms apart, from `send` to the kernel's stamp."""
    random = Random(1)
    delays = []
    received = Reception()

    def collect(timeout_s: float) -> bool:
        if not select.select([hosts.receiver], [], [], timeout_s)[0]:
            return False
        (sent_ns,) = struct.unpack_from("=q", hosts.take(received))
        delays.append(received.arrivals[-1][0] - sent_ns)
        return True

    padding = bytes(DATAGRAM_BYTES - 8)
    for _ in range(probes):
        due_ns = time.monotonic_ns() + random.randrange(1_000_000, 5_000_000)
        while (wait_ns := due_ns - time.monotonic_ns()) > 0:
            collect(wait_ns * 1e-9)
        hosts.sender.send(struct.pack("=q", time.time_ns()) + padding)
    while collect(0.5):
        pass
    return delays


def tcp_goodput_bps(hosts: TwoHosts, seconds: float) -> float:
    """What one TCP connection delivers, after half a second of warming up."""
    with hosts.plumbing.hosts["right"].entered():
        listener = socket.create_server((RIGHT, PORT))
    with hosts.plumbing.hosts["left"].entered():
        sender = socket.socket()
    return _tcp_goodput_bps(listener, sender, seconds)


def _tcp_goodput_bps(listener: socket.socket, sender: socket.socket, seconds: float) -> float:
    child = os.fork()
    if child == 0:
        try:
            sender.connect((RIGHT, PORT))
            block = bytes(1 << 20)
            while True:
                sender.sendall(block)
        finally:
            os._exit(0)
    sender.close()
    connection, _ = listener.accept()
    buffer = bytearray(1 << 20)
    try:
        start = time.monotonic()
        while time.monotonic() - start < 0.5:
            connection.recv_into(buffer)
        start, total = time.monotonic(), 0
        while (elapsed := time.monotonic() - start) < seconds:
            total += connection.recv_into(buffer)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        connection.close()
        listener.close()
    return total * 8 / elapsed


def bare_copy_bps(seconds: float) -> float:
    """The same TCP connection through a process that copies frames and does nothing else."""
    spaces = [NetNamespace.create("left"), NetNamespace.create("right")]
    taps = []
    for space, address in zip(spaces, (LEFT, RIGHT), strict=True):
        with space.entered():
            taps.append(open_tap("eth0"))
        index = rtnl.devices(space.routing)["eth0"].index
        space.routing.request(rtnl.add_address(index, ip_interface(f"{address}/24")))
        space.routing.request(rtnl.set_link(index, up=True))
    child = os.fork()
    if child == 0:
        try:
            copy_frames(taps[0], taps[1])
        finally:
            os._exit(0)
    try:
        with spaces[1].entered():
            listener = socket.create_server((RIGHT, PORT))
        with spaces[0].entered():
            sender = socket.socket()
        return _tcp_goodput_bps(listener, sender, seconds)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for tap in taps:
            os.close(tap)
        for space in spaces:
            space.close()


def copy_frames(one: int, other: int) -> None:
    """Copy frames both ways, without end."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    sinks = {one: other, other: one}
    while True:
        for source in select.select([one, other], [], [])[0]:
            with suppress(BlockingIOError):
                for _ in range(16):
                    os.write(sinks[source], os.read(source, 1 << 17))


@dataclass(frozen=True)
class Verdict:
    """What one measurement found."""

    asked: str
    found: str
    good: bool


@dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    driver: str
    what: str
    measure: Callable[[], Verdict]


def rate(driver: str, rate_bps: int, seconds: float) -> Verdict:
    """Offer a tenth more than the link carries; time what arrives."""
    limit = rate_bps // 8 // 50 + 2 * 65536
    with TwoHosts(driver, Channel(rate_bps=rate_bps, queue=Queue(limit_bytes=limit))) as hosts:
        received = stream(hosts, int(rate_bps * 1.1), seconds)
    found = received.rate_bps(skip=0.2)
    error = found / rate_bps - 1
    return Verdict(
        f"{rate_bps / MBPS:g} Mb/s",
        f"{found / MBPS:.2f} Mb/s ({error:+.2%})",
        abs(error) < RATE_TOLERANCE,
    )


def delay(driver: str, delay_ms: float, rate_bps: int, probes: int, *, quick: bool) -> Verdict:
    """Send single packets at random moments; compare with delay and serialisation."""
    channel = Channel(rate_bps=rate_bps, delay_ns=round(delay_ms * MS))
    with TwoHosts(driver, channel) as hosts:
        delays_ns = one_way_delays(hosts, probes)
    due_ns = delay_ms * MS + FRAME_BYTES * 8e9 / rate_bps
    errors_ms = sorted(abs(found - due_ns) / MS for found in delays_ns)
    median, worst = errors_ms[len(errors_ms) // 2], errors_ms[int(len(errors_ms) * 0.99)]
    judged = median if quick else worst
    return Verdict(
        f"{due_ns / MS:.3f} ms",
        f"off by {median:.3f} median, {worst:.3f} p99 ms",
        judged < DELAY_TOLERANCE_MS and len(errors_ms) == probes,
    )


def loss(driver: str, share: float, packets: int) -> Verdict:
    """Count what arrives of many packets."""
    with TwoHosts(driver, Channel(loss=share)) as hosts:
        received = stream(hosts, 1_500_000_000, packets * FRAME_BYTES * 8 / 1.5e9)
    lost = received.offered_packets - received.packets
    expected = received.offered_packets * share
    margin = INTERVAL * (expected * (1 - share)) ** 0.5
    return Verdict(
        f"{expected:.0f} +- {margin:.0f}",
        f"{lost} of {received.offered_packets}",
        abs(lost - expected) <= margin,
    )


def queue(driver: str, packets: int) -> Verdict:
    """Offer three times what fits, at once, to a slow link; see what waits."""
    limit = packets * FRAME_BYTES + FRAME_BYTES // 2
    channel = Channel(rate_bps=MBPS, queue=Queue(limit_bytes=limit))
    with TwoHosts(driver, channel) as hosts:
        hosts.offer_at_once(3 * packets)
        waiting = hosts.driver.readings()["forward"].queue_bytes
        received = hosts.receive(idle_s=0.1 + FRAME_BYTES * 8 / MBPS)
    assert waiting is not None
    extra = received.packets - packets if driver == "tap" else 0  # tbf's bucket lets more through
    return Verdict(
        f"{packets} packets",
        f"{waiting / FRAME_BYTES:g} waited, {received.packets} arrived",
        packets - 1 <= waiting / FRAME_BYTES <= packets and 0 <= extra <= 1,
    )


def long_fat_link(driver: str, delay_ms: int) -> Verdict:
    """A 10 Gb/s link with a long delay holds all that is under way, and loses none of it."""
    channel = Channel(rate_bps=10_000 * MBPS, delay_ns=delay_ms * MS)
    with TwoHosts(driver, channel) as hosts:
        received = stream(hosts, 9_000 * MBPS, 0.3)
    return Verdict(
        f"all packets, {delay_ms} ms",
        f"{received.packets} of {received.offered_packets}"
        f" ({received.offered_packets * FRAME_BYTES / 1e6:.0f} MB)",
        received.packets == received.offered_packets,
    )


def throughput(driver: str, seconds: float) -> Verdict:
    """TCP over a link without a rate, beside a process that does nothing but copy."""
    with TwoHosts(driver, Channel()) as hosts:
        found = tcp_goodput_bps(hosts, seconds)
    bare = bare_copy_bps(seconds) if driver == "tap" else 0.0
    beside = f", a bare copy {bare / 1e9:.2f}" if bare else ""
    return Verdict(
        f"{THROUGHPUT_BPS / 1e9:g} Gb/s", f"{found / 1e9:.2f} Gb/s{beside}", found >= THROUGHPUT_BPS
    )


def measurements(driver: str, *, quick: bool) -> Iterable[Measurement]:
    """All that this driver is judged by."""
    seconds, probes, packets = (0.5, 100, 20_000) if quick else (3.0, 1500, 200_000)
    delays: tuple[float, ...] = DELAYS_MS[:1] if quick else DELAYS_MS
    shares: tuple[float, ...] = LOSSES[1:2] if quick else LOSSES
    if driver == "kernel":  # it has a rate and a queue only
        delays, shares = (0.0,), ()
    for mbps in (100,) if quick else RATES_MBPS:
        yield Measurement(driver, "rate", partial(rate, driver, mbps * MBPS, seconds))
    yield Measurement(driver, "queue", partial(queue, driver, 40))
    for delay_ms in delays:
        measure = partial(delay, driver, delay_ms, 1000 * MBPS, probes, quick=quick)
        yield Measurement(driver, "added delay", measure)
    for share in shares:
        yield Measurement(driver, "loss", partial(loss, driver, share, packets))
    if driver == "tap" and not quick:
        yield Measurement(driver, "delay line", partial(long_fat_link, driver, 202))
        yield Measurement(driver, "throughput", partial(throughput, driver, 4.0))


def steal_ticks() -> tuple[int, int]:
    """CPU ticks that the hypervisor took, and all ticks (proc(5))."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return fields[7], sum(fields[:8])


def judge(measurement: Measurement, attempts: int) -> bool:
    """Measure until it is good or no attempt is left, and print the line."""
    attempt = 0
    while True:
        attempt += 1
        before = steal_ticks()
        verdict = measurement.measure()
        after = steal_ticks()
        if verdict.good or attempt == attempts:
            break
    steal = (after[0] - before[0]) / max(1, after[1] - before[1])
    print(
        f"{measurement.driver:7} {measurement.what:12} {verdict.asked:20} {verdict.found:44}"
        f" {'ok' if verdict.good else 'OUT':4} {steal:6.1%} {attempt:3}",
        flush=True,
    )
    return verdict.good


def main() -> int:
    """Measure what this machine has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--driver", action="append", choices=("tap", "kernel", "netem"))
    parser.add_argument("--only", help="measure only lines of this kind, as 'rate'")
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds; judge delays by their median"
    )
    parser.add_argument("--attempts", type=int, default=3)
    options = parser.parse_args()
    drivers = options.driver or ["tap", "kernel", "netem"]
    here = {"tap": tap_works(), "netem": netem_works(), "kernel": True}
    print(f"{'driver':7} {'what':12} {'asked':20} {'found':44} {'':4} {'steal':>6} {'n':>3}")
    good = True
    for driver in drivers:
        if not here[driver]:
            print(f"{driver:7} not on this machine")
            continue
        for measurement in measurements(driver, quick=options.quick):
            if options.only in (None, measurement.what):
                good &= judge(measurement, options.attempts)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

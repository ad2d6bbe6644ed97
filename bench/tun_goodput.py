"""Goodput of our stack to the kernel over TUN, beside kernel to kernel over the same links.

Everything runs in network namespaces made for the purpose (root is needed). In one run, in turn:

    veth            kernel to kernel over veth pairs
    tun             kernel to kernel over TUN devices, a process copying packets between them
    ours > kernel   our stack on a TUN device sends to the kernel
    kernel > ours   and receives from it

All speak MPTCP with one subflow per link; packets are GSO-sized, MTU 1500. The kernel's end always
is a process of its own, and so is our stack. Usage: ``python bench/tun_goodput.py --seconds 5``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import socket
import statistics
import sys
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from time import monotonic
from typing import Protocol

from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits, PathManager
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.sockets.driver import Driver, Link
from mptcplab.linux.sockets.setup import new_stack, open_tun
from mptcplab.linux.sockets.tun_device import TunDevice
from mptcplab.loop import NEVER, CallbackTimer, RealTimeLoop
from mptcplab.stack import events
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers import FullMesh

IPPROTO_MPTCP = 262
PORT = 5001
CHUNK = bytes(1 << 20)
SECOND_NS = 1_000_000_000


class Closeable(Protocol):
    def close(self) -> None: ...


def close_all(*things: Closeable) -> None:
    for thing in things:
        thing.close()


def kernel_socket(namespace: NetNamespace) -> socket.socket:
    with namespace.entered():
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)


def listen(namespace: NetNamespace) -> socket.socket:
    listener = kernel_socket(namespace)
    listener.bind(("0.0.0.0", PORT))
    listener.listen()
    return listener


def sink(listener: socket.socket, seconds: float) -> float:
    """Receive for so long, and return bits per second without the first fifth of it."""
    peer, _ = listener.accept()
    buffer = bytearray(1 << 20)
    begin = monotonic()
    received, counted_from = 0, 0.0
    while (now := monotonic()) - begin < seconds:
        size = peer.recv_into(buffer)
        if not size:
            break
        if now - begin >= seconds / 5:
            if not counted_from:
                counted_from = now
            else:
                received += size
    return 8 * received / (monotonic() - counted_from)


def source(client: socket.socket, address: str) -> None:
    """Send until killed."""
    client.connect((address, PORT))
    while True:
        client.sendall(CHUNK)


def fork(work: Callable[[], object]) -> int:
    """Run something in a child process that never returns to the caller's code."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except (ConnectionError, KeyboardInterrupt):
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def forked_result(work: Callable[[], float]) -> tuple[int, int]:
    """Run something in a child process; its result comes through the returned descriptor."""
    read_fd, write_fd = os.pipe()
    child = fork(lambda: os.write(write_fd, json.dumps(work()).encode()))
    os.close(write_fd)
    return child, read_fd


def finish(reader: tuple[int, int], *others: int) -> float:
    """Wait for the measuring child and end the others."""
    child, fd = reader
    result = os.read(fd, 100)
    os.close(fd)
    os.waitpid(child, 0)
    for other in others:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    if not result:
        raise SystemExit("the measuring process failed")
    return float(json.loads(result))


class OurHost:
    """Our stack and its event loop in this process: no thread, no lock."""

    def __init__(self, devices: list[TunDevice]) -> None:
        stack = new_stack(congestion="reno", path_manager=FullMesh, seed=1)
        self.loop = RealTimeLoop()
        self.driver = Driver(stack, self.handle_event)
        self.timer = CallbackTimer(self.loop, self.handle_timeout)
        self.connection: Connection | None = None
        self.sending = False
        self.counted_from = NEVER
        self.received = 0
        for number, device in enumerate(devices, 1):
            link = self.driver.add_link(device, f"10.{number}.0.2")

            self.loop.add_reader(device.fileno(), partial(self.handle_readable, link))

    def handle_readable(self, link: Link) -> None:
        self.driver.handle_readable(link)
        self.after()

    def handle_timeout(self) -> None:
        self.driver.handle_timeout()
        self.after()

    def handle_event(self, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.ConnectionAccepted):
            self.connection = connection
        elif isinstance(event, events.ConnectionEstablished | events.DataWritable):
            # It may have been told of room before the end of the measurement, and hear it after.
            if self.sending and connection.closed_for is None:
                while connection.write(CHUNK) == len(CHUNK):
                    pass
        elif isinstance(event, events.DataReadable):
            size = len(connection.read())
            if self.loop.now_ns >= self.counted_from:
                self.received += size

    def after(self) -> None:
        deadline_ns = self.driver.deadline_ns
        if deadline_ns is None:
            self.timer.cancel()
        else:
            self.timer.set(deadline_ns)

    def send(self) -> None:
        """Connect and send until killed."""
        self.sending = True
        stack = self.driver.stack
        local, remote = stack.local_addresses[0].address, bytes((10, 1, 0, 1))
        self.connection = stack.connect(local, remote, PORT, self.loop.now_ns)
        self.driver.flush()
        self.after()
        self.loop.run()

    def receive(self, seconds: float) -> float:
        """Accept one connection and return the bits per second that come on it."""
        self.driver.stack.listen(PORT)
        begin = self.loop.now_ns
        self.counted_from = begin + int(seconds * SECOND_NS / 5)
        self.loop.run(begin + int(seconds * SECOND_NS))
        return 8 * self.received * SECOND_NS / (self.loop.now_ns - self.counted_from)


def prepare(namespace: NetNamespace, announced: int = 1) -> None:
    """Set what the runs need; announce our addresses on the links from the second on."""
    namespace.write_sysctls({"net.ipv4.tcp_congestion_control": "reno"})
    manager = PathManager(lambda: namespace.generic)
    manager.set_limits(Limits(subflows=8, add_addr_accepted=8))
    for number in range(2, announced + 1):
        manager.add(Endpoint(IPv4Address(f"10.{number}.0.1"), Flags.SIGNAL, number))


def copy_packets(pairs: list[tuple[TunDevice, TunDevice]]) -> None:
    """Carry packets between devices as they are, offload header and all."""
    loop = RealTimeLoop()

    def carry(source_fd: int, target_fd: int) -> Callable[[], None]:
        def handle_readable() -> None:
            for _ in range(64):
                try:
                    os.write(target_fd, os.read(source_fd, 65_600))
                except BlockingIOError:
                    return

        return handle_readable

    for left, right in pairs:
        loop.add_reader(left.fileno(), carry(left.fileno(), right.fileno()))
        loop.add_reader(right.fileno(), carry(right.fileno(), left.fileno()))
    loop.run()


def add_veth(left: NetNamespace, right: NetNamespace, number: int) -> None:
    """Join two namespaces by a veth pair with addresses as the TUN devices have them."""
    name = f"veth{number}"
    ends = rtnl.VethEnd(name, left.descriptor), rtnl.VethEnd(name, right.descriptor)
    left.routing.request(rtnl.add_veth(*ends))
    for host, namespace in ((1, left), (2, right)):
        index = rtnl.devices(namespace.routing)[name].index
        address = IPv4Interface(f"10.{number}.0.{host}/24")
        namespace.routing.batch([rtnl.add_address(index, address), rtnl.set_link(index, up=True)])


def kernel_to_kernel(links: int, seconds: float, tun: bool) -> float:
    """Return the goodput between two kernels, over TUN devices or veth pairs."""
    left, right = NetNamespace.create("left"), NetNamespace.create("right")
    pairs: list[tuple[TunDevice, TunDevice]] = []
    for number in range(1, links + 1):
        if tun:
            with left.entered():
                one = open_tun(f"tun{number}", f"10.{number}.0.1/24")
            with right.entered():
                pairs.append((one, open_tun(f"tun{number}", f"10.{number}.0.2/24")))
        else:
            add_veth(left, right, number)
    prepare(left, links)
    prepare(right)
    listener, client = listen(left), kernel_socket(right)
    others = [fork(lambda: copy_packets(pairs))] if tun else []
    reader = forked_result(lambda: sink(listener, seconds))
    result = finish(reader, fork(lambda: source(client, "10.1.0.1")), *others)
    close_all(client, listener, left, right, *itertools.chain(*pairs))
    return result


def ours_and_kernel(links: int, seconds: float, upload: bool) -> float:
    """Return the goodput from our stack to the kernel, or the other way."""
    kernel = NetNamespace.create("kernel")
    with kernel.entered():
        devices = [open_tun(f"tun{n}", f"10.{n}.0.1/24") for n in range(1, links + 1)]
    prepare(kernel)
    if upload:
        listener = listen(kernel)
        reader = forked_result(lambda: sink(listener, seconds))
        result = finish(reader, fork(lambda: OurHost(devices).send()))
        listener.close()
    else:
        client = kernel_socket(kernel)
        reader = forked_result(lambda: OurHost(devices).receive(seconds))
        result = finish(reader, fork(lambda: source(client, "10.1.0.2")))
        client.close()
    close_all(kernel, *devices)
    return result


def main() -> None:
    """Print medians in Gb/s, and ratios to kernel over TUN."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run (default 4)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind (default 3)")
    parser.add_argument("--links", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for links in options.links:
        seconds = options.seconds
        kinds: dict[str, Callable[[], float]] = {
            "kernel to kernel, veth": partial(kernel_to_kernel, links, seconds, False),
            "kernel to kernel, TUN": partial(kernel_to_kernel, links, seconds, True),
            "our stack to kernel": partial(ours_and_kernel, links, seconds, True),
            "kernel to our stack": partial(ours_and_kernel, links, seconds, False),
        }
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(options.repeat):
            for name, run in kinds.items():
                found[name].append(run() / 1e9)
        reference = statistics.median(found["kernel to kernel, TUN"])
        print(f"{links} link(s), medians of {options.repeat} runs of {options.seconds:g} s")
        for name, values in found.items():
            median = statistics.median(values)
            spread = f"{min(values):.2f} to {max(values):.2f}"
            print(f"  {name:24} {median:6.2f} Gb/s  {median / reference:5.2f}  ({spread})")


if __name__ == "__main__":
    main()

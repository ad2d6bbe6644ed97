"""Namespaces with TUN devices, and kernel sockets in them."""

from __future__ import annotations

import hashlib
import os
import select
import socket as sockets
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Protocol

import pytest
from tests.linux.sockets.boxed_devices import BoxedPort, Gate, Relay

from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.sockets.blocking_host import ConnectionSocket, Host
from mptcplab.linux.sockets.driver import Link
from mptcplab.linux.sockets.setup import open_tun
from mptcplab.linux.sockets.tun_device import TunDevice
from mptcplab.loop import RealTimeLoop
from mptcplab.middleboxes import Chain, Middlebox
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.path_managers import InitialOnly, PathManager
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.stack import Stack
from mptcplab.stack.testing import usable_paths
from mptcplab.wire.mptcp import Dss, MptcpOption
from mptcplab.wire.segment import Segment

IPPROTO_MPTCP = 262
SOL_MPTCP = 284
MPTCP_INFO = 1

# What a healthy run may count; every other MPTcpExt counter must be provoked by the test.
HEALTHY = frozenset(
    [
        "MPCapableSYNRX",
        "MPCapableSYNTX",
        "MPCapableSYNACKRX",
        "MPCapableACKRX",
        "MPJoinSynRx",
        "MPJoinSynAckRx",
        "MPJoinAckRx",
        "MPJoinSynTx",
        "OFOQueue",
        "OFOQueueTail",
        "OFOMerge",
        "SndWndShared",
        "RcvWndShared",
        "RcvWndConflictUpdate",
        "NoDSSInWindow",
        "AddAddr",
        "AddAddrTx",
        "EchoAdd",
        "EchoAddTx",
        "RmAddr",
        "RmAddrTx",
        "RmSubflow",
        "MPPrioTx",
        "MPPrioRx",
        "MPCurrEstab",
        "MPTCPRetrans",
        "DuplicateData",
        "WinProbe",
    ]
)


Ends = tuple["ConnectionSocket", sockets.socket]
"""Our end of a connection, and the kernel's."""


class Closeable(Protocol):
    def close(self) -> None: ...


class Namespace:
    """A network namespace of the test's own, gone with the descriptor."""

    def __init__(self, mptcp: bool = True) -> None:
        self.net = NetNamespace.create("test")
        self.fd = self.net.descriptor
        self.ip("link", "set", "lo", "up")
        self.sysctl("net.mptcp.enabled", int(mptcp))
        self.sysctl("net.mptcp.blackhole_timeout", 0)
        self.sysctl("net.mptcp.stale_loss_cnt", 20)  # we may have to wait for a busy machine
        self.sysctl("net.ipv4.conf.all.rp_filter", 0)
        self.sysctl("net.ipv4.conf.default.rp_filter", 0)
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv4.tcp_congestion_control", "reno")  # no host restricts it

    def run(self, *command: str) -> str:
        enter = ["nsenter", f"--net=/proc/self/fd/{self.fd}"]
        result = subprocess.run(
            [*enter, *command], pass_fds=(self.fd,), capture_output=True, text=True, timeout=20
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout

    def ip(self, *arguments: str) -> str:
        return self.run("ip", *arguments)

    def sysctl(self, name: str, value: int | str) -> None:
        self.net.write_sysctls({name: str(value)})

    def tun(self, name: str, *addresses: str, mtu: int = 1500) -> TunDevice:
        """A TUN device that is up and has these addresses (with prefix lengths)."""
        with self.net.entered():
            return open_tun(name, *addresses, mtu_bytes=mtu)

    def socket(self, family: int = sockets.AF_INET, mptcp: bool = True) -> sockets.socket:
        protocol = IPPROTO_MPTCP if mptcp else sockets.IPPROTO_TCP
        with self.net.entered():
            made = sockets.socket(family, sockets.SOCK_STREAM, protocol)
        made.settimeout(30)
        return made

    def listener(self, address: str, port: int = 5001, mptcp: bool = True) -> sockets.socket:
        family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
        made = self.socket(family, mptcp)
        made.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(8)
        return made

    def counters(self) -> dict[str, int]:
        """The MPTcpExt counters that are not zero."""
        with self.net.entered():
            lines = Path("/proc/thread-self/net/netstat").read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            if names.startswith("MPTcpExt:"):
                pairs = zip(names.split()[1:], values.split()[1:], strict=True)
                return {name: int(value) for name, value in pairs if int(value)}
        raise AssertionError("this kernel has no MPTCP counters")

    def unprovoked(self, *provoked: str) -> dict[str, int]:
        """Counters that neither a healthy run nor the test explains."""
        allowed = HEALTHY | set(provoked)
        return {name: count for name, count in self.counters().items() if name not in allowed}

    def close(self) -> None:
        self.net.close()


def mptcp_info(sock: sockets.socket) -> dict[str, int]:
    """Fields of struct mptcp_info that tests look at; a socket that became TCP has none."""
    try:
        raw = sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 96)
    except OSError:
        return {"fallback": 1}
    fields = struct.unpack_from("8BIIQQQ", raw)
    return {
        "subflows": fields[0],
        "add_addr_signal": fields[1],
        "add_addr_accepted": fields[2],
        "fallback": fields[8] & 1,
        "token": fields[9],
        "write_seq": fields[10],
        "csum_enabled": raw[42],
    }


class Worker:
    """A thread whose exception and result the test sees."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._result: object = None
        self._error: BaseException | None = None

        def body() -> None:
            try:
                self._result = work()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=body, daemon=True)
        self._thread.start()

    def result(self, timeout: float = 60) -> object:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the kernel peer did not finish"
        if self._error is not None:
            raise self._error
        return self._result


def eventually(holds: Callable[[], bool], what: str, timeout: float = 10) -> None:
    """Wait until something holds of the kernel, which tells nobody."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"never came: {what}"
        select.select([], [], [], 0.005)


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that differ everywhere, cheap to make."""
    block = b"".join(
        hashlib.sha256(struct.pack("<QQ", seed, i)).digest()
        for i in range(min(size, 65536) // 32 + 1)
    )
    return (block * (size // len(block) + 1))[:size]


def send_all(sock: sockets.socket, data: bytes) -> str:
    """Send, finish the direction, and return the digest of what was sent."""
    sock.sendall(data)
    sock.shutdown(sockets.SHUT_WR)
    return hashlib.sha256(data).hexdigest()


def receive_exactly(receive: Callable[[int], bytes], size: int) -> str:
    """Return the digest of the next bytes; fails when the stream ends before."""
    digest = hashlib.sha256()
    left = size
    while left:
        chunk = receive(min(left, 1 << 18))
        assert chunk, f"the stream ended with {left} bytes missing"
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def receive_all(sock: sockets.socket) -> str:
    """Return the digest of everything up to the end of the stream."""
    digest = hashlib.sha256()
    while chunk := sock.recv(1 << 18):
        digest.update(chunk)
    return digest.hexdigest()


class Relayed:
    """Two kernels with one or more links between them, and boxes on each link.

    ``left`` and ``right`` have the addresses 10.N.0.1 and 10.N.0.2 (and fd00:N::1, ::2) on link N.
    """

    def __init__(self, lab: Lab, boxes: list[list[Middlebox]]) -> None:
        self.left, self.right = lab.namespace(), lab.namespace()
        self._loop = RealTimeLoop()
        self._devices: list[TunDevice] = []
        for number, chain in enumerate(boxes, 1):
            left = self.left.tun(f"l{number}", f"10.{number}.0.1/24", f"fd00:{number}::1/64")
            right = self.right.tun(f"r{number}", f"10.{number}.0.2/24", f"fd00:{number}::2/64")
            self._devices += [left, right]
            Relay(self._loop, left, right, Chain(chain))
        self._wake = os.eventfd(0)
        self._loop.add_reader(self._wake, self._loop.stop)
        self._thread = Worker(self._loop.run)

    def close(self) -> None:
        os.eventfd_write(self._wake, 1)
        self._thread.result()
        self._loop.close()
        os.close(self._wake)
        for device in self._devices:
            device.close()


class Count(Middlebox):
    """Counts payload that passes, and remembers which MPTCP options did."""

    def __init__(self) -> None:
        super().__init__(MiddleboxPlan("count"))
        self.payload_bytes = {True: 0, False: 0}
        self.options: list[tuple[bool, MptcpOption]] = []

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        self.payload_bytes[outbound] += segment.payload_bytes
        for option in segment.mptcp:
            if not isinstance(option, Dss):
                self.options.append((outbound, option))
        return [segment]

    def saw(self, kind: type[MptcpOption], outbound: bool) -> bool:
        """Whether an option of a kind passed in a direction (outbound: from our stack)."""
        return any(way is outbound and isinstance(option, kind) for way, option in self.options)


class Interop:
    """A kernel in a namespace and a host of ours, joined by one TUN device per link.

    On link N the kernel has 10.N.0.1 and fd00:N::1, our host 10.N.0.2 and fd00:N::2. Our address
    decides which link a segment takes, both ways. Every link counts, has a gate, and may have
    boxes; *outbound* is from our host to the kernel.
    """

    def __init__(
        self,
        lab: Lab,
        links: int,
        boxes: tuple[list[Middlebox], ...],
        path_manager: Callable[[], PathManager],
        kernel_mptcp: bool,
        settings: dict[str, object],
    ) -> None:
        self._lab = lab
        self.kernel = lab.namespace(kernel_mptcp)
        config = StackConfig(CONGESTION_CONTROLS["reno"], SCHEDULERS["lowest-rtt"], path_manager)
        self.config = replace(config, **settings)  # type: ignore[arg-type]
        self.host = Host(Stack(self.config, Random(1)))
        self.counts: list[Count] = []
        self.gates: list[Gate] = []
        self.links: list[Link] = []
        self.devices: list[TunDevice] = []
        for number in range(1, links + 1):
            addresses = (f"10.{number}.0.1/24", f"fd00:{number}::1/64")
            device = self.kernel.tun(f"tun{number}", *addresses)
            self.devices.append(device)
            self.counts.append(Count())
            self.gates.append(Gate())
            own = boxes[number - 1] if number <= len(boxes) else []
            chain = Chain([*own, self.gates[-1], self.counts[-1]])
            port = BoxedPort(device, chain)
            self.links.append(self.host.add_link(port, f"10.{number}.0.2", f"fd00:{number}::2"))

    def limit_rates(self, mbit: int) -> None:
        """Let the kernel send so fast per link, so that it has a use for each."""
        for device in self.devices:
            rate = ("rate", f"{mbit}mbit", "burst", "128kb", "latency", "30ms")
            self.kernel.run("tc", "qdisc", "replace", "dev", device.name, "root", "tbf", *rate)

    def close(self) -> None:
        self.host.close()
        for device in self.devices:
            device.close()

    def connect(self, address: str = "10.1.0.1", mptcp: bool = True) -> Ends:
        """We connect to the kernel."""
        listener = self.kernel.listener("::", mptcp=mptcp)
        self._lab.closing(listener)
        ours = self.host.connect(address, 5001)
        theirs, _ = listener.accept()
        theirs.settimeout(30)
        self._lab.closing(theirs)
        return ours, theirs

    def accept(self, address: str = "10.1.0.2", mptcp: bool = True) -> Ends:
        """The kernel connects to us."""
        listener = self.host.listen(5001)
        theirs = self.kernel.socket(sockets.AF_INET6, mptcp)
        self._lab.closing(theirs)
        theirs.connect((address if ":" in address else f"::ffff:{address}", 5001))
        return listener.accept(), theirs

    def join(self, as_client: bool, address: str = "10.1.0.X", mptcp: bool = True) -> Ends:
        """One of both, with X for the last digit of the address."""
        if as_client:
            return self.connect(address.replace("X", "1"), mptcp)
        return self.accept(address.replace("X", "2"), mptcp)

    def subflows(self, ours: ConnectionSocket) -> int:
        """How many subflows are established."""
        with self.host.lock:
            return len(usable_paths(ours.connection))

    def exchange(self, ends: Ends, size: int, finish: bool = True) -> None:
        """Stream both ways, one after the other, and compare digests."""
        self.upload(ends, size, finish)
        self.download(ends, size, finish)
        if finish:
            ends[0].wait_for(lambda state: state.peer_finished)

    def upload(self, ends: Ends, size: int, finish: bool = False) -> None:
        ours, theirs = ends
        data = pattern(size, 1)
        receiving = Worker(lambda: receive_exactly(theirs.recv, size))
        ours.send(data)
        if finish:
            ours.finish()
        assert receiving.result() == hashlib.sha256(data).hexdigest()

    def download(self, ends: Ends, size: int, finish: bool = False) -> None:
        ours, theirs = ends
        data = pattern(size, 2)
        sending = Worker(lambda: theirs.sendall(data))
        assert receive_exactly(ours.recv, size) == hashlib.sha256(data).hexdigest()
        sending.result()
        if finish:
            theirs.shutdown(sockets.SHUT_WR)


class Lab:
    """What the tests of this folder work with; everything it makes is gone afterwards."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.bulk_bytes = int(os.environ.get("MPTCPLAB_BULK_BYTES", 10_000_000))
        """Size of the bulk transfers; 200 MB in the long version."""

    def close(self) -> None:
        self._stack.close()

    def namespace(self, mptcp: bool = True) -> Namespace:
        made = Namespace(mptcp)
        self._stack.callback(made.close)
        return made

    def relayed(self, *boxes: list[Middlebox]) -> Relayed:
        made = Relayed(self, list(boxes))
        self._stack.callback(made.close)
        return made

    def interop(
        self,
        links: int = 1,
        *boxes: list[Middlebox],
        path_manager: Callable[[], PathManager] = InitialOnly,
        kernel_mptcp: bool = True,
        **settings: object,
    ) -> Interop:
        made = Interop(self, links, boxes, path_manager, kernel_mptcp, settings)
        self._stack.callback(made.close)
        return made

    def closing(self, thing: Closeable) -> None:
        """Close something when the test is over."""
        self._stack.callback(thing.close)

    eventually = staticmethod(eventually)
    pattern = staticmethod(pattern)
    info = staticmethod(mptcp_info)

    def worker(self, work: Callable[[], object]) -> Worker:
        return Worker(work)

    def transfer(
        self, sender: sockets.socket, receiver: sockets.socket, data: bytes, timeout: float = 60
    ) -> None:
        """Stream data from one kernel socket to the other and compare digests."""
        receiving = Worker(lambda: receive_all(receiver))
        sending = Worker(lambda: send_all(sender, data))
        assert receiving.result(timeout) == sending.result(timeout)


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()

"""Namespaces with TUN devices, and kernel sockets in them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mptcplab.linux.tun import TunDevice

IPPROTO_MPTCP = 262
SOL_MPTCP = 284
MPTCP_INFO = 1
CLONE_NEWNET = 0x40000000

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


class Namespace:
    """A network namespace of the test's own, gone with the descriptor."""

    def __init__(self, mptcp: bool = True) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if self._libc.unshare(CLONE_NEWNET) < 0:
            os.close(home)
            raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._libc.setns(home, CLONE_NEWNET)
        os.close(home)
        self.ip("link", "set", "lo", "up")
        self.sysctl("net.mptcp.enabled", int(mptcp))
        self.sysctl("net.mptcp.blackhole_timeout", 0)
        self.sysctl("net.ipv4.conf.all.rp_filter", 0)
        self.sysctl("net.ipv4.conf.default.rp_filter", 0)
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv4.tcp_congestion_control", "cubic")

    @contextmanager
    def entered(self) -> Iterator[None]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._libc.setns(self.fd, CLONE_NEWNET)
        try:
            yield
        finally:
            self._libc.setns(home, CLONE_NEWNET)
            os.close(home)

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
        with self.entered():
            Path("/proc/sys", *name.split(".")).write_text(str(value))

    def tun(self, name: str, *addresses: str, mtu: int = 1500) -> TunDevice:
        """A TUN device that is up and has these addresses (with prefix lengths)."""
        with self.entered():
            device = TunDevice(name)
        for address in addresses:
            extra = ("nodad",) if ":" in address else ()
            self.ip("addr", "add", address, "dev", name, *extra)
        self.ip("link", "set", name, "mtu", str(mtu), "up")
        return device

    def socket(self, family: int = socket.AF_INET, mptcp: bool = True) -> socket.socket:
        protocol = IPPROTO_MPTCP if mptcp else socket.IPPROTO_TCP
        with self.entered():
            made = socket.socket(family, socket.SOCK_STREAM, protocol)
        made.settimeout(30)
        return made

    def listener(self, address: str, port: int = 5001, mptcp: bool = True) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.socket(family, mptcp)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(8)
        return made

    def counters(self) -> dict[str, int]:
        """The MPTcpExt counters that are not zero."""
        with self.entered():
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
        os.close(self.fd)


def mptcp_info(sock: socket.socket) -> dict[str, int]:
    """Fields of struct mptcp_info that tests look at."""
    raw = sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 96)
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


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that differ everywhere, cheap to make."""
    block = b"".join(
        hashlib.sha256(struct.pack("<QQ", seed, i)).digest() for i in range(min(size, 65536) // 32 + 1)
    )
    return (block * (size // len(block) + 1))[:size]


def send_all(sock: socket.socket, data: bytes) -> str:
    """Send, finish the direction, and return the digest of what was sent."""
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    return hashlib.sha256(data).hexdigest()


def receive_all(sock: socket.socket) -> str:
    """Return the digest of everything up to the end of the stream."""
    digest = hashlib.sha256()
    while chunk := sock.recv(1 << 18):
        digest.update(chunk)
    return digest.hexdigest()


@pytest.fixture
def namespaces() -> Iterator[Callable[..., Namespace]]:
    made: list[Namespace] = []

    def create(**options: bool) -> Namespace:
        try:
            made.append(Namespace(**options))
        except OSError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"no network namespaces here: {error}")
        return made[-1]

    yield create
    for namespace in made:
        with suppress(OSError):
            namespace.close()

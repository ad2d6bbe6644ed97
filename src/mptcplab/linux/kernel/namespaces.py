"""Network namespaces without names: each is a descriptor, and goes when its holder goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mptcplab.linux.kernel.netlink import NETLINK_GENERIC, NETLINK_ROUTE, NetlinkSocket
from mptcplab.linux.kernel.syscalls import CLONE_NEWNET, setns, unshare

_CURRENT: Final = "/proc/thread-self/ns/net"


class SysctlError(OSError):
    """The kernel does not have a sysctl, or does not take the value."""

    exit_status = 3

    def __init__(self, code: int | None, name: str, value: str) -> None:
        super().__init__(code, f"sysctl {name} = {value}: {os.strerror(code or 0)}")
        self.name = name
        self.value = value

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[type[SysctlError], tuple[int | None, str, str]]:
        return SysctlError, (self.errno, self.name, self.value)


class NetNamespace:
    """A network namespace, its routing socket, and the way into it.

    Entering moves the calling thread only; the lab does so from one thread.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        with self.entered():
            self.routing = NetlinkSocket(NETLINK_ROUTE)
        self._generic: NetlinkSocket | None = None

    @classmethod
    def create(cls, name: str) -> NetNamespace:
        """Make a namespace; ``name`` is only for messages.  OSError where not allowed."""
        home = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWNET)
            try:
                descriptor = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)
        return cls(descriptor, name)

    @classmethod
    def current(cls, name: str) -> NetNamespace:
        """Return the namespace that the calling thread is in."""
        return cls(os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC), name)

    @property
    def generic(self) -> NetlinkSocket:
        """The namespace's generic netlink socket."""
        if self._generic is None:
            with self.entered():
                self._generic = NetlinkSocket(NETLINK_GENERIC)
        return self._generic

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run the block with the calling thread inside: sockets made there stay there."""
        home = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self.descriptor, CLONE_NEWNET)
            try:
                yield
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)

    def write_sysctls(self, values: dict[str, str]) -> None:
        """Set sysctls of the namespace by their dotted names; OSError names the one refused."""
        with self.entered():
            for name, value in values.items():
                write_sysctl(name, value)

    def close(self) -> None:
        """Let go of it: the kernel removes it once no process is inside."""
        self.routing.close()
        if self._generic is not None:
            self._generic.close()
        os.close(self.descriptor)


def _sysctl_path(name: str) -> Path:
    """Return a sysctl's file; a dot inside an interface's name is written as a slash."""
    parts = name.split(".")
    return Path("/proc/sys", *(part.replace("/", ".") for part in parts))


def read_sysctl(name: str) -> str | None:
    """Return a sysctl of the calling thread's namespaces; None where this kernel has none such."""
    try:
        return _sysctl_path(name).read_text().strip()
    except FileNotFoundError:
        return None


def write_sysctl(name: str, value: str) -> None:
    """Set a sysctl of the calling thread's namespaces."""
    path = _sysctl_path(name)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SysctlError(error.errno, name, value) from error

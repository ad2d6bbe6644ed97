"""A host's tunables as the kernel's sysctls."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mptcplab.linux.lab import addressing, steering
from mptcplab.network.topology import Host
from mptcplab.scenario.model import KERNEL_SCHEDULERS, Tunables

_SMALLEST_BUFFER: Final = "4096"
_INITIAL_RECEIVE_BUFFER: Final = 131072  # net/ipv4/tcp.c, tcp_init
_INITIAL_SEND_BUFFER: Final = 16384


def host_sysctls(host: Host, settings: Tunables) -> dict[str, str]:
    """Return the sysctls of a host, by dotted name; the scenario's own ones come last."""
    values = dict(addressing.HOST_SYSCTLS)
    if Path("/proc/sys/net/ipv6").exists():
        values |= addressing.HOST_SYSCTLS_IPV6
        if not addressing.has_ipv6(host):
            values |= addressing.NO_LINK_LOCAL
    if host.stack == "kernel" and Path("/proc/sys/net/mptcp").exists():
        values |= _mptcp(settings)
    if host.stack == "ours":
        values |= steering.sysctls(host)
    if settings.receive_buffer_max_bytes is not None:
        largest = settings.receive_buffer_max_bytes
        initial = min(_INITIAL_RECEIVE_BUFFER, largest)
        values["net.ipv4.tcp_rmem"] = f"{_SMALLEST_BUFFER} {initial} {largest}"
    if settings.send_buffer_max_bytes is not None:
        largest = settings.send_buffer_max_bytes
        initial = min(_INITIAL_SEND_BUFFER, largest)
        values["net.ipv4.tcp_wmem"] = f"{_SMALLEST_BUFFER} {initial} {largest}"
    if settings.rto_max_ms is not None:
        values["net.ipv4.tcp_rto_max_ms"] = str(settings.rto_max_ms)
    if settings.retries2 is not None:
        values["net.ipv4.tcp_retries2"] = str(settings.retries2)
    if settings.ecn is not None:
        values["net.ipv4.tcp_ecn"] = str(int(settings.ecn))
    return values | dict(settings.sysctls)


def _mptcp(settings: Tunables) -> dict[str, str]:
    scheduler = kernel_scheduler(settings)
    values = {
        "net.mptcp.enabled": str(int(settings.enabled)),
        "net.mptcp.checksum_enabled": str(int(settings.checksum)),
        # a link that the scenario cuts is no blackhole to remember
        "net.mptcp.blackhole_timeout": "0",
        "net.mptcp.scheduler": scheduler,
    }
    for name, value in (
        ("stale_loss_cnt", settings.stale_loss_cnt),
        ("close_timeout", settings.close_timeout_s),
        ("add_addr_timeout", settings.add_addr_timeout_s),
    ):
        if value is not None:
            values[f"net.mptcp.{name}"] = str(value)
    if not Path("/proc/sys/net/mptcp/blackhole_timeout").exists():  # Linux before 6.12
        del values["net.mptcp.blackhole_timeout"]
    if scheduler == "default" and not Path("/proc/sys/net/mptcp/scheduler").exists():
        del values["net.mptcp.scheduler"]  # Linux before 6.8 has no other
    return values


def kernel_scheduler(settings: Tunables) -> str:
    """Return the kernel's name of a host's packet scheduler."""
    return "default" if settings.scheduler in KERNEL_SCHEDULERS else settings.scheduler


def optional_sysctls() -> dict[str, str]:
    """Return the sysctls that a lab would like and does without where the machine refuses.

    A namespace may choose only among the congestion controls that the machine's
    net.ipv4.tcp_allowed_congestion_control lists; a socket's own choice is not bound by it.
    """
    return {"net.ipv4.tcp_congestion_control": "cubic"}

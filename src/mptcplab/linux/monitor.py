"""Rates and round trips of interfaces, as appendix E of the report watched them."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO

from mptcplab.linux.probes.rtt import RttProber
from mptcplab.units import NANOSECONDS

HEADER: Final = f"{'time':<12} {'interface':<15} {'tx Mb/s':>10} {'rx Mb/s':>10} " + (
    f"{'sum Mb/s':>10} {'RTT ms':>9}"
)
_CSV_COLUMNS: Final = ("time", "interface", "tx_bps", "rx_bps", "rtt_ns")


class MonitorError(RuntimeError):
    """What cannot be watched; the text says why and what to do."""

    def __init__(self, text: str, exit_status: int) -> None:
        self.exit_status = exit_status
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Reading:
    """One interface over one interval; ``rtt_ns`` None where nothing was asked or came back."""

    at: datetime
    interface: str
    tx_bps: float
    rx_bps: float
    rtt_ns: int | None

    def line(self) -> str:
        """Return the reading under the columns of ``HEADER``."""
        rtt = "" if self.rtt_ns is None else f"{self.rtt_ns / 1e6:.3f}"
        total = self.tx_bps + self.rx_bps
        return (
            f"{self.at:%H:%M:%S.%f}"[:12]
            + f" {self.interface:<15} {self.tx_bps / 1e6:>10.2f} {self.rx_bps / 1e6:>10.2f} "
            f"{total / 1e6:>10.2f} {rtt:>9}".rstrip()
        )

    def record(self) -> tuple[str, str, int, int, int | str]:
        """Return the reading as a line of the CSV file."""
        rtt: int | str = "" if self.rtt_ns is None else self.rtt_ns
        stamp = self.at.isoformat(timespec="milliseconds")
        return stamp, self.interface, round(self.tx_bps), round(self.rx_bps), rtt


def parse_device_counters(text: str) -> dict[str, tuple[int, int]]:
    """Return (tx, rx) bytes by interface from the text of /proc/net/dev."""
    counters = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.rpartition(":")
        fields = numbers.split()
        counters[name.strip()] = (int(fields[8]), int(fields[0]))
    return counters


def _read_device_counters() -> dict[str, tuple[int, int]]:
    """Return (tx, rx) bytes of each interface of the namespace that this process is in."""
    return parse_device_counters(Path("/proc/self/net/dev").read_text())


def watch(
    interfaces: Sequence[str],
    hosts: Mapping[str, str],
    interval_ns: int,
    count: int | None = None,
) -> Iterator[list[Reading]]:
    """Yield a reading of each interface every interval, ``count`` times or for ever.

    ``hosts`` names, by interface, whom to send echoes to.  MonitorError for an interface that does
    not exist, or where echoes are not allowed.
    """
    before = _read_device_counters()
    for name in interfaces:
        if name not in before:
            known = ", ".join(before)
            raise MonitorError(f"there is no interface {name} here; there are {known}", 2)
    with ExitStack() as stack:
        probers = {}
        for interface, host in hosts.items():
            probers[interface] = _prober(interface, host)
            stack.callback(probers[interface].close)
        for prober in probers.values():
            prober.send()
        since_ns = due_ns = time.monotonic_ns()
        done = 0
        while count is None or done < count:
            due_ns += interval_ns
            time.sleep(max(0, due_ns - time.monotonic_ns()) / NANOSECONDS)
            now_ns, after = time.monotonic_ns(), _read_device_counters()
            readings = []
            for name in interfaces:
                answers = probers[name].collect() if name in probers else []
                tx_bps, rx_bps = (
                    (new - old) * 8 * NANOSECONDS / (now_ns - since_ns)
                    for new, old in zip(after.get(name, before[name]), before[name], strict=True)
                )
                rtt_ns = answers[-1] if answers else None
                readings.append(Reading(datetime.now().astimezone(), name, tx_bps, rx_bps, rtt_ns))
            yield readings
            for prober in probers.values():
                prober.send()
            before |= after
            since_ns = now_ns
            done += 1


def show(
    readings: Iterator[list[Reading]], screen: TextIO, file: TextIO | None, *, repeat: int = 20
) -> None:
    """Print readings under a header that returns now and then; write each to a CSV file too."""
    writer = None
    if file is not None:
        writer = csv.writer(file)
        writer.writerow(_CSV_COLUMNS)
    for number, row in enumerate(readings):
        if number % repeat == 0:
            print(HEADER, file=screen)
        for reading in row:
            print(reading.line(), file=screen, flush=True)
            if writer is not None and file is not None:
                writer.writerow(reading.record())
                file.flush()


def _prober(interface: str, host: str) -> RttProber:
    try:
        return RttProber(interface, "", host)
    except ValueError as error:
        raise MonitorError(f"--rtt {host}: not an IPv4 or IPv6 address", 2) from error
    except PermissionError as error:
        raise MonitorError(
            "--rtt needs CAP_NET_RAW: run as root, or inside a lab (mptcplab lab exec)", 3
        ) from error

"""Open vSwitch inside a lab: one daemon, in a namespace of its own, with a bridge for each switch.

It is Debian's, with the datapath in user space, so that no module is needed and nothing outside the
lab is touched: its database, sockets and logs are in a tmpfs that only its processes see, and these
end with the lab's PID namespace.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    mount,
    setns,
    unshare,
)
from mptcplab.linux.lab.openflow import Programme
from mptcplab.network.switching import Taken
from mptcplab.network.topology import Topology

PROGRAMS: Final = ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl")
PACKAGE: Final = "openvswitch-switch"
"""The Debian package of the programs."""
_SCHEMA: Final = Path("/usr/share/openvswitch/vswitch.ovsschema")
_RUN: Final = "/run"  # of the daemons' own mount namespace
_DATABASE: Final = f"unix:{_RUN}/db.sock"
_SETTINGS: Final = (
    "other_config:userspace-tso-enable=true",
    # ms for which the datapath remembers a flow that is over
    "other_config:max-idle=86400000",
)
"""The first lets the datapath take packets whose checksum the sender left to the device, as hosts
and TAP devices do. Frames of several packets are cut before they come: of those it loses some."""
_PATIENCE_S: Final = 30
_SYSTEM_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin"  # not in everybody's PATH


_TCP_FLOW: Final = re.compile(
    r"ipv[46]\(src=([0-9a-f.:]+),dst=([0-9a-f.:]+).*tcp\(src=(\d+),dst=(\d+)\).*actions:(\S+)"
)
"""Of a flow of the datapath whose ports a group has looked at."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """A switch of the fabric: what it is called in its namespace, and the links at its devices.

    Of a device without a link, an interface is plugged in. Its place is the number of its port.
    """

    name: str
    switch: str
    devices: dict[str, str | None]
    programme: Programme


def missing_programs() -> list[str]:
    """Return what of Open vSwitch is not on this machine."""
    return [name for name in PROGRAMS if _find(name) is None] + (
        [] if _SCHEMA.exists() else [str(_SCHEMA)]
    )


def check_programs(topology: Topology) -> None:
    """Raise MachineCannotError where a topology has a fabric and Open vSwitch is not here."""
    for switch in topology.switches:
        if switch.spreads and (missing := missing_programs()):
            raise MachineCannotError(
                f'switches.{switch.name}.fabric: "{switch.fabric}" needs Open vSwitch, and this '
                f"machine has no {', '.join(missing)}; expected it installed (Debian: apt install "
                f"{PACKAGE}), or --on simulated"
            )


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_FOLDERS}")


class Fabric:
    """The daemons of one lab, in the namespace where the ports of its bridges are."""

    def __init__(self, space: NetNamespace) -> None:
        """Start them. MachineCannotError where they do not come up."""
        self.space: Final = space
        self._said = os.memfd_create("open vswitch")
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._bridges: list[Bridge] = []
        try:
            self._start_database()
            self._ask(
                "ovs-vsctl",
                "--retry",
                "--no-wait",
                "init",
                "--",
                *("set", "Open_vSwitch", ".", *_SETTINGS),
            )
            self._start("ovs-vswitchd", _DATABASE, "--disable-system")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process that forwards packets."""
        return self._daemons[-1].pid

    @property
    def is_alive(self) -> bool:
        """Whether the daemons still run."""
        return all(daemon.poll() is None for daemon in self._daemons)

    def add(self, bridges: Sequence[Bridge]) -> None:
        """Make bridges of devices that are in the namespace, and let them forward."""
        words: list[str] = []
        for bridge in bridges:
            words += ["--", "add-br", bridge.name]
            words += ["--", "set", "bridge", bridge.name, "datapath_type=netdev"]
            words += ["fail_mode=secure", "protocols=OpenFlow15"]
            for number, device in enumerate(bridge.devices, 1):
                words += ["--", "add-port", bridge.name, device]
                words += ["--", "set", "interface", device, f"ofport_request={number}"]
        self._ask("ovs-vsctl", *words)
        self._bridges += bridges
        for bridge in bridges:
            self._tell("add-groups", bridge.name, bridge.programme.groups)
            self._tell("add-flows", bridge.name, bridge.programme.flows)
        devices = rtnl.devices(self.space.routing)
        self.space.routing.batch(
            rtnl.set_link(devices[name].index, up=True)
            for bridge in bridges
            for name in bridge.devices
        )

    def taken(self) -> list[Taken]:
        """Return where switches have sent the TCP flows that they chose a link for by its ports.

        OVS is asked what its datapath has forwarded, of which it forgets nothing meanwhile; nothing
        where it is gone.
        """
        if not self.is_alive:
            return []
        places = {
            device: (bridge.switch, link)
            for bridge in self._bridges
            for device, link in bridge.devices.items()
            if link is not None
        }
        found = set()
        for line in self._ask(
            "ovs-appctl", "-t", f"{_RUN}/ovs-vswitchd.ctl", "dpctl/dump-flows", "--names"
        ).splitlines():
            if (match := _TCP_FLOW.search(line)) and match[5] in places:
                switch, link = places[match[5]]
                found.add(Taken(switch, match[1], int(match[3]), match[2], int(match[4]), link))
        return sorted(found)

    def close(self) -> None:
        """End the daemons."""
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()
        self._daemons = []
        if self._said >= 0:
            os.close(self._said)
            self._said = -1

    def _tell(self, verb: str, bridge: str, lines: Sequence[str]) -> None:
        if lines:
            self._ask("ovs-ofctl", "-O", "OpenFlow15", verb, bridge, "-", lines=lines)

    def _start_database(self) -> None:
        """Start the first daemon, in a mount namespace that the others then join."""

        def enter() -> None:
            _take_signals()
            setns(self.space.descriptor, CLONE_NEWNET)
            unshare(CLONE_NEWNS)
            mount("", "/", "", MS_REC | MS_SLAVE)
            mount("tmpfs", _RUN, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)

        create = f"{_find('ovsdb-tool')} create {_RUN}/conf.db {_SCHEMA}"
        serve = f"{_find('ovsdb-server')} {_RUN}/conf.db --remote=p{_DATABASE} -vconsole:err"
        self._popen(["/bin/sh", "-ec", f"{create}\nexec {serve} -vsyslog:off"], enter)

    def _start(self, program: str, *words: str) -> None:
        argv = [_find(program) or program, *words, "-vconsole:err", "-vsyslog:off"]
        with self._joining() as enter:
            self._popen([*argv, f"--unixctl={_RUN}/{program}.ctl"], enter)

    def _popen(self, argv: list[str], enter: Callable[[], None]) -> None:
        self._daemons.append(
            subprocess.Popen(
                argv,
                preexec_fn=enter,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
            )
        )

    @contextmanager
    def _joining(self) -> Iterator[Callable[[], None]]:
        """Give what moves a child to where the first daemon is.

        MachineCannotError where that has ended, so that there is nowhere to go.
        """
        try:
            handle = os.pidfd_open(self._daemons[0].pid)
        except ProcessLookupError as error:
            raise self._ended() from error

        def enter() -> None:
            _take_signals()
            setns(handle, CLONE_NEWNS | CLONE_NEWNET)

        try:
            yield enter
        except subprocess.SubprocessError as error:  # what it says of a failure of enter's
            raise self._ended() from error
        finally:
            os.close(handle)

    def _ended(self) -> MachineCannotError:
        return MachineCannotError(f"the lab's Open vSwitch has ended: {self._last_words()}")

    def _ask(self, program: str, *words: str, lines: Sequence[str] = ()) -> str:
        """Run a program beside the daemons and return what it says; MachineCannotError else."""
        argv = [_find(program) or program, f"--timeout={_PATIENCE_S}", *words]
        if program == "ovs-vsctl":
            argv.insert(1, f"--db={_DATABASE}")
        with self._joining() as enter:
            done = subprocess.run(
                argv,
                preexec_fn=enter,
                env=_environment(),
                input="".join(f"{line}\n" for line in lines).encode(),
                capture_output=True,
                check=False,
            )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or self._last_words()
            raise MachineCannotError(
                f"the lab's Open vSwitch does not do as it is told ({program} {words[0]}): {said}"
            )
        return done.stdout.decode(errors="replace")

    def _last_words(self) -> str:
        os.lseek(self._said, 0, os.SEEK_SET)
        lines = os.read(self._said, 1 << 20).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no word of why"


def _take_signals() -> None:
    """Let a child take the signals that its parent has ways of its own with."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def _environment() -> dict[str, str]:
    folders = dict.fromkeys(("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"), _RUN)
    return {**os.environ, **folders}

"""Machines to log in to: hosts of a lab with an sshd each, and a management network beside it.

The links are those of a topology, built by the Linux testbed; what that sets up on hosts beside
addresses is taken away again, so that the hosts are as real ones are found.  Controllers run in a
namespace of the management network; nothing is sent outside namespaces made here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Final

from tests.linux.alone import alone_with

import mptcplab
from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.syscalls import CLONE_NEWNET, setns
from mptcplab.linux.lab.lab import Lab, open_lab
from mptcplab.network.topology import Topology
from mptcplab.remote.agent.programs import MARK

SSHD: Final = "/usr/sbin/sshd"
_SOURCES: Final = Path(mptcplab.__file__).parents[1]
_NETWORK: Final = "10.99.0.{}/24"
_SAYS: Final = ("link", "address", "rule", "route show table all", "mptcp endpoint", "mptcp limits")


@dataclass
class Machines:
    """The machines of a lab, by name, with their addresses on the management network."""

    lab: Lab
    management: NetNamespace
    home: Path
    addresses: dict[str, str]

    @property
    def options(self) -> list[str]:
        """What tells a command where the machines are."""
        return [
            word
            for name, address in self.addresses.items()
            for word in ("--set", f'hosts.{name}.ssh="root@{address}"')
        ]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``mptcplab`` in the management network."""
        return subprocess.Popen(
            [sys.executable, "-m", "mptcplab", *arguments],
            preexec_fn=partial(setns, self.management.descriptor, CLONE_NEWNET),
            env=os.environ | {"HOME": str(self.home), "PYTHONPATH": str(_SOURCES)},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run ``mptcplab`` in the management network to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def on(self, host: str, *argv: str) -> str:
        """Run a program on a machine and return what it printed."""
        done = subprocess.run(
            argv,
            preexec_fn=partial(setns, self.lab.namespace(host).descriptor, CLONE_NEWNET),
            capture_output=True,
            text=True,
        )
        return done.stdout

    def ip(self, host: str, command: str) -> None:
        """Run one command of iproute2 on a machine."""
        self.on(host, "ip", *command.split())

    @contextmanager
    def serving(self, host: str, port: int, command: str) -> Iterator[None]:
        """Let a machine run a command, on another port, in the place of what is asked."""
        argv = _sshd(self.home, self.home / "host_key", self.addresses[host])
        argv += ["-p", str(port), "-o", f"ForceCommand={command}"]
        server = self.lab.spawn(host, argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for_port(self, host, port)
            yield
        finally:
            _end(server)

    def state(self) -> dict[str, str]:
        """Return all that a controller might leave on the machines."""
        said = {}
        for host in self.addresses:
            for family in ("-4", "-6"):
                for what in _SAYS:
                    said[f"{host} {family} {what}"] = "\n".join(
                        sorted(self.on(host, "ip", "-N", family, *what.split()).splitlines())
                    )
            said[f"{host} sysctls"] = self.on(
                host, "sh", "-c", "grep -rs . /proc/sys/net/mptcp /proc/sys/net/ipv4/conf/*/arp_*"
            )
        for journal in Path("/run").glob("mptcplab-hosts/*"):
            said[str(journal)] = "a journal"
        return said

    def differences(self, state: Mapping[str, str]) -> list[str]:
        """Return what is not as it was in a state, but for journals that others have removed."""
        return [
            f"{name}: {now} was {state.get(name)}"
            for name, now in self.state().items()
            if now != state.get(name)
        ]

    def expect(self, state: Mapping[str, str], within_s: float, of: str = "") -> None:
        """Wait until the machines are in a state, and no agent runs there; fail if they never are.

        An agent whose line was cut takes some seconds to notice.  ``of`` is told with the failure.
        A time in which everything stood still, agents as well, counts as a second.
        """
        waited_s, looked_s = 0.0, time.monotonic()
        while self.agents() or self.differences(state):
            waited_s += min(time.monotonic() - looked_s, 1.0)
            looked_s = time.monotonic()
            if waited_s > within_s:
                told = [of, *self.differences(state), f"agents: {self.agents()}"]
                raise AssertionError("\n".join(told))
            time.sleep(0.1)

    @staticmethod
    def parent(process: int) -> int:
        """Return the parent of a process, 0 where it is gone (proc(5), stat)."""
        try:
            text = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return 0
        return int(text.rpartition(")")[2].split()[1])

    def agents(self) -> list[int]:
        """Return the processes of agents, their guardians and programs on these machines."""
        spaces = {os.fstat(self.lab.namespace(host).descriptor).st_ino for host in self.addresses}
        return [
            int(process.name)
            for process in Path("/proc").iterdir()
            if process.name.isdigit() and _is_agent(process, spaces)
        ]


def _is_agent(process: Path, spaces: set[int]) -> bool:
    try:
        words = (process / "cmdline").read_bytes()
        is_program = any(
            variable.startswith(f"{MARK}=".encode())
            for variable in (process / "environ").read_bytes().split(b"\0")
        )
        ours = is_program or b"mptcplab-agent" in words
        return ours and (process / "ns/net").stat().st_ino in spaces
    except OSError:
        return False


@contextmanager
def machines(topology: Topology, folder: Path, path: str = "") -> Iterator[Machines]:
    """Build machines and the network between them, whose agents have all journals in /run.

    With a ``path``, programs are looked for there.
    """
    with ExitStack() as opened:
        opened.enter_context(alone_with("machines"))
        lab = opened.enter_context(open_lab(topology))
        for link in lab.links.values():
            link.set_up(True)  # whatever the scenario begins with
        management = NetNamespace.create("management")
        opened.callback(management.close)
        management.routing.request(rtnl.add_bridge("bridge"))
        _up(management, "bridge", _NETWORK.format(254))
        addresses = {}
        for number, host in enumerate(topology.hosts, 1):
            _plain(lab, host.name)
            _manage(lab, management, host.name, number)
            addresses[host.name] = _NETWORK.format(number).partition("/")[0]
        key = folder / "host_key"
        ssh = folder / ".ssh"
        ssh.mkdir()
        for file in (key, ssh / "id_ed25519"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
        (folder / "authorized").write_bytes((ssh / "id_ed25519.pub").read_bytes())
        public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        (ssh / "known_hosts").write_text(
            "".join(
                f"{address} {public}\n[{address}]:2222 {public}\n" for address in addresses.values()
            )
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        for name, address in addresses.items():
            server = lab.spawn(
                name,
                [*_sshd(folder, key, address), *(["-o", f"SetEnv=PATH={path}"] if path else [])],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            opened.callback(_end, server)
        result = Machines(lab, management, folder, addresses)
        _wait_for_machines(result)
        yield result


def _sshd(folder: Path, key: Path, address: str) -> list[str]:
    options = {
        "HostKey": key,
        "ListenAddress": address,
        "AuthorizedKeysFile": folder / "authorized",
        "StrictModes": "no",
        "PidFile": "none",
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "MaxStartups": "100",
    }
    return [
        *(SSHD, "-D", "-e", "-f", "/dev/null"),
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
    ]


def _plain(lab: Lab, host: str) -> None:
    """Take away what the Linux testbed does to a host for MPTCP."""
    manager = lab.pm(host)
    for endpoint in manager.endpoints():
        manager.delete(endpoint)
    with lab.enter(host):
        for family in ("-4", "-6"):
            rules = subprocess.run(
                ["ip", family, "rule", "show"], capture_output=True, text=True, check=True
            ).stdout
            for line in rules.splitlines():
                priority = line.partition(":")[0]
                if 1000 <= int(priority) < 2000:
                    table = line.rsplit(maxsplit=1)[1]
                    subprocess.run(["ip", family, "rule", "delete", "priority", priority])
                    subprocess.run(["ip", family, "route", "flush", "table", table])


def _manage(lab: Lab, management: NetNamespace, host: str, number: int) -> None:
    """Give a host an interface on the management network."""
    space = lab.namespace(host)
    near = rtnl.VethEnd("mgmt0", space.descriptor)
    far = rtnl.VethEnd(f"to-{number}", management.descriptor)
    space.routing.request(rtnl.add_veth(near, far))
    _up(space, "mgmt0", _NETWORK.format(number))
    devices = rtnl.devices(management.routing)
    management.routing.request(
        rtnl.set_link(devices[f"to-{number}"].index, up=True, master=devices["bridge"].index)
    )


def _up(space: NetNamespace, name: str, address: str) -> None:
    index = rtnl.devices(space.routing)[name].index
    space.routing.request(rtnl.add_address(index, ip_interface(address)))
    space.routing.request(rtnl.set_link(index, up=True))


def _wait_for_machines(result: Machines) -> None:
    """Wait until every sshd listens and the kernel calls every interface up, a little later."""
    deadline = time.monotonic() + 10
    for host in result.addresses:
        _wait_for_port(result, host, 22)
        while any(
            " state UP " not in line
            for line in result.on(host, "ip", "-o", "link").splitlines()
            if "LOOPBACK" not in line
        ):
            assert time.monotonic() < deadline, f"{host} is not ready"
            time.sleep(0.05)


def _wait_for_port(result: Machines, host: str, port: int) -> None:
    deadline = time.monotonic() + 10
    while f":{port} " not in result.on(host, "ss", "-tln"):
        assert time.monotonic() < deadline, f"nothing listens at port {port} of {host}"
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()

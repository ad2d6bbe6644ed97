"""What keeps hosts from making a second subflow, each built in a lab, and what to say of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from tests.linux.hosts import nft
from tests.linux.hosts.lab import PORT, HostLab, direct, routed

from mptcplab.hosts.examine import Examination, examine_peer
from mptcplab.hosts.judgement import Fix
from mptcplab.hosts.listen import Listener
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags

WAIT_S: Final = 1.3
"""Long enough for one SYN to be sent again."""


@dataclass(frozen=True)
class Case:
    """A misconfiguration: the lab, what is bent in it, and the code of the reason to be given.

    ``first`` is the network of the server's address that the client connects to.  ``by_hand`` does
    what the remedy says where that is no command.  ``enough`` is whether the subflow comes all the
    same.
    """

    name: str
    what: str
    make: Callable[[int], Any]
    bend: Callable[[HostLab], Any]
    code: str
    first: int = 8
    server: str = "mptcp"
    by_hand: Callable[[HostLab], Any] | None = None
    enough: bool = False
    versions: tuple[int, ...] = (4, 6)
    wait_s: float = WAIT_S
    serve_again: str = ""
    laminar: bool = False
    """Whether what mends it are endpoints that Linux has from 6.18 on."""
    needs: tuple[str, ...] = ()
    """Sysctls that kernels before some version do not have."""
    then: str = ""
    """What is named once that is mended, and mended in its turn."""


class Server:
    """What listens on the server: "mptcp", "tcp", a plain "proxy" of it, or on "one" address."""

    def __init__(self, lab: HostLab, kind: str, first: int) -> None:
        self._stopping = threading.Event()
        self._open: list[Any] = []
        self._threads: list[threading.Thread] = []
        with lab.spaces["server"].entered():
            if kind in ("mptcp", "proxy"):
                listener = Listener(PORT if kind == "mptcp" else PORT + 1)
                self._open.append(listener)
                self._start(lambda: listener.serve(_hear_nothing, self._goes_on))
            if kind != "mptcp":
                family = {4: socket.AF_INET, 6: socket.AF_INET6}[lab.version]
                protocol = 262 if kind == "one" else socket.IPPROTO_TCP
                plain = socket.socket(family, socket.SOCK_STREAM, protocol)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                plain.bind((str(lab.address(first, 2)) if kind == "one" else "", PORT))
                plain.listen()
                plain.settimeout(0.2)
                self._open.append(plain)
                self._start(lambda: self._accept(plain))

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _goes_on(self) -> bool:
        return not self._stopping.is_set()

    def _accept(self, plain: socket.socket) -> None:
        taken = []
        while self._goes_on():
            try:
                connection, _ = plain.accept()
            except (TimeoutError, OSError):
                continue
            taken.append(connection)
            connection.sendall(b"x")
        for connection in taken:
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)
        for each in self._open:
            each.close()


def _hear_nothing(_text: str) -> None:
    """Take no notice."""


@contextmanager
def serving(lab: HostLab, kind: str, first: int) -> Iterator[None]:
    """Serve while the block runs."""
    server = Server(lab, kind, first)
    try:
        yield
    finally:
        server.close()


def examined(lab: HostLab, case: Case, kind: str, wait_s: float) -> Examination:
    """Examine the client, with a server of some kind at the peer."""
    with serving(lab, kind, case.first), lab.spaces["client"].entered():
        return examine_peer([lab.address(case.first, 2)], PORT, wait_s)


def apply(lab: HostLab, fixes: tuple[Fix, ...]) -> None:
    """Run the commands of --fix, each where it belongs."""
    for fix in fixes:
        assert fix.complete, fix
        where = "client" if fix.on == "here" else "server"
        if fix.command.startswith("nft "):
            nft.run(lab.spaces[where], fix.command)
        elif "laminar" in fix.command:  # which iproute2 before 6.18 does not know
            words = fix.command.split()
            index = lab.index(where, words[words.index("dev") + 1]) if "dev" in words else 0
            flags = Flags.LAMINAR | (Flags.BACKUP if "backup" in words else Flags(0))
            address = ip_address(words[4])
            lab.pm(where).add(Endpoint(address, flags, interface_index=index))
        else:
            lab.run(where, *fix.command.split())


def _sysctl(host: str, **values: str) -> Callable[[HostLab], None]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return lambda lab: lab.spaces[host].write_sysctls(named)


def _no_endpoints(lab: HostLab) -> None:
    for endpoint in lab.pm("client").endpoints():
        lab.pm("client").delete(endpoint)


def _endpoint(flags: Flags, interface: str = "eth2", last: int = 0) -> Callable[[HostLab], None]:
    def bend(lab: HostLab) -> None:
        _no_endpoints(lab)
        lab.endpoint("client", 2, flags, interface, last=last)

    return bend


def _no_rule(lab: HostLab) -> None:
    _endpoint(Flags.SUBFLOW, "")(lab)
    lab.ip("client", "rule del pref 1002")


def _no_table(lab: HostLab) -> None:
    _no_rule(lab)
    lab.ip("client", f"route del default via {lab.address(2, 3)} dev eth2 table 2")


def _no_way(lab: HostLab) -> None:
    _endpoint(Flags.SUBFLOW, "")(lab)
    lab.ip("client", "route add unreachable default table 3")
    lab.ip("client", f"rule add from {lab.address(2, 1)} table 3 pref 1001")


def _reverse_path(lab: HostLab) -> None:
    lab.ip("client", "rule del pref 1002")
    _sysctl("client", net__ipv4__conf__eth2__rp_filter="1")(lab)


def _link_local(lab: HostLab) -> None:
    _no_endpoints(lab)
    shown = json.loads(lab.run("client", "ip", "-j", "-6", "address", "show", "dev", "eth2"))
    local = next(a["local"] for a in shown[0]["addr_info"] if a["scope"] == "link")
    index = lab.index("client", "eth2")
    lab.pm("client").add(Endpoint(ip_address(local), Flags.SUBFLOW, interface_index=index))


def _backup(lab: HostLab) -> None:
    """The second address of the client gets an endpoint, from which the first of the server is out
    of reach."""
    _rule("server", "input", nft.from_interface("eth1"), JOIN, DROP)(lab)
    lab.endpoint("client", 2, Flags.SUBFLOW | Flags.BACKUP)


def _one_address(lab: HostLab) -> None:
    """The server announces a second address, and does not listen there."""
    lab.ip("server", f"address add {lab.address(8, 4)}/{24 if lab.version == 4 else 64} dev eth1")
    lab.pm("server").add(Endpoint(lab.address(8, 4), Flags.SIGNAL))
    lab.limits("client", 2, 1)


def _announce_nothing(lab: HostLab) -> None:
    lab.pm("server").add(Endpoint(lab.address(8, 77), Flags.SIGNAL))
    lab.limits("client", 2, 1)


def _three_addresses(lab: HostLab) -> None:
    for number in (5, 6):
        bits = 24 if lab.version == 4 else 64
        lab.ip("client", f"address add {lab.address(2, number)}/{bits} dev eth2")
        lab.ip("client", f"rule add from {lab.address(2, number)} table 2 pref {1000 + number}")
        lab.endpoint("client", 2, Flags.SUBFLOW, "eth2", last=number)
    lab.limits("client", 1, 0)
    lab.limits("server", 8, 0)


def _rule(host: str, hook: str, *parts: list[nft.Expression]) -> Callable[[HostLab], None]:
    return lambda lab: nft.add_rule(lab.spaces[host], hook, *parts)


def _flush_router(lab: HostLab) -> None:
    nft.run(lab.spaces["router"], "nft delete rule inet filter forward handle 2")


def _dropped_capable(lab: HostLab) -> None:
    _rule("router", "forward", nft.option(nft.CAPABLE), nft.drop())(lab)
    _sysctl("client", net__mptcp__syn_retrans_before_tcp_fallback="1")(lab)


def _blackhole(lab: HostLab) -> None:
    """A connection was tried while SYNs with MP_CAPABLE were dropped, and they no longer are."""
    _dropped_capable(lab)
    with serving(lab, "mptcp", 8), lab.spaces["client"].entered():
        family = {4: socket.AF_INET, 6: socket.AF_INET6}[lab.version]
        with socket.socket(family, socket.SOCK_STREAM, 262) as first:
            first.settimeout(10)
            first.connect((str(lab.address(8, 2)), PORT))
    _flush_router(lab)


JOIN, CAPABLE, DROP, STRIP = nft.option(nft.JOIN), nft.option(nft.CAPABLE), nft.drop(), nft.strip()
_SECOND = nft.from_interface("r2")

BLACKHOLE: Final = (
    "net/mptcp/blackhole_timeout",
    "net/mptcp/syn_retrans_before_tcp_fallback",
)

CASES: Final = [
    Case("client-accepts-none", "client: `add_addr_accepted 0`, the server announces an address",
         direct, lambda lab: lab.limits("client", 2, 0), "limits-add-addr-accepted", 1),
    Case("client-limit", "client: `subflows 0`", routed,
         lambda lab: lab.limits("client", 0, 0), "limits-subflows"),
    Case("limit-cuts", "client: three endpoints, `subflows 1`", routed, _three_addresses,
         "limits-cut", enough=True),
    Case("server-limit", "server: `subflows 0`", routed,
         lambda lab: lab.limits("server", 0, 0), "peer-rejects"),
    Case("plain-server", "server: its listener is plain TCP", routed, lambda _: None,
         "peer-plain-tcp", server="tcp", serve_again="mptcp"),
    Case("mptcp-off-at-server", "server: MPTCP is off in its container", routed,
         _sysctl("server", net__mptcp__enabled="0"), "peer-plain-tcp", server="tcp",
         serve_again="mptcp", by_hand=_sysctl("server", net__mptcp__enabled="1")),
    Case("proxy", "a proxy of plain TCP in front of the server", routed, lambda _: None,
         "peer-plain-tcp", server="proxy", serve_again="mptcp"),
    Case("mptcp-off", "client: `net.mptcp.enabled 0`", routed,
         _sysctl("client", net__mptcp__enabled="0"), "mptcp-disabled"),
    Case("signal-endpoint", "client: its endpoint is `signal`, not `subflow`", routed,
         _endpoint(Flags.SIGNAL), "endpoint-signal"),
    Case("no-endpoint", "client: no endpoint, the server announces nothing", routed, _no_endpoints,
         "no-endpoint"),
    Case("address-changed", "client: its endpoint's address is not on the host any more", routed,
         _endpoint(Flags.SUBFLOW, last=9), "endpoint-address-missing"),
    Case("link-local", "client: its endpoint's address is link-local", routed, _link_local,
         "link-local", versions=(6,)),
    Case("interface-down", "client: the interface towards the announced address is down", direct,
         lambda lab: lab.ip("client", "link set eth2 down"), "interface-down", 1),
    Case("no-route", "client: no route for the second address", routed, _no_way, "no-route"),
    Case("no-rule", "client: no rule for the second address (a DHCP client or NetworkManager "
         "removed it)", routed, _no_rule, "route-other-interface"),
    Case("no-table", "client: neither rule nor table for the second address", routed, _no_table,
         "route-other-interface"),
    Case("rp-filter", "client: strict `rp_filter`, and the answers come by another way", routed,
         _reverse_path, "rp-filter", versions=(4,)),
    Case("join-dropped", "a firewall on the second path drops MP_JOIN", routed,
         _rule("router", "forward", _SECOND, JOIN, DROP), "join-dropped", by_hand=_flush_router),
    Case("path-black", "a firewall on the second path drops all of it", routed,
         _rule("router", "forward", _SECOND, DROP), "no-answer", by_hand=_flush_router),
    Case("join-stripped", "a box on the path removes the option of the join's SYN/ACK", routed,
         _rule("router", "forward", nft.from_interface("s1"), JOIN, STRIP),
         "join-option-stripped", by_hand=_flush_router),
    Case("capable-stripped", "a box on the path removes MP_CAPABLE", routed,
         _rule("router", "forward", CAPABLE, STRIP), "peer-plain-tcp", by_hand=_flush_router),
    Case("capable-dropped", "a firewall on the path drops SYNs with MP_CAPABLE", routed,
         _dropped_capable, "capable-dropped", by_hand=_flush_router, then="blackhole",
         needs=BLACKHOLE),
    Case("blackhole", "such a firewall is gone, and the client still leaves MP_CAPABLE out", routed,
         _blackhole, "blackhole", needs=BLACKHOLE),
    Case("own-filter-out", "client: a rule of its own drops MP_JOIN that leaves", routed,
         _rule("client", "output", JOIN, DROP), "local-filter"),
    Case("own-filter-in", "client: a rule of its own drops MP_JOIN that comes", routed,
         _rule("client", "input", JOIN, DROP), "local-filter"),
    Case("own-strip", "client: a rule of its own removes MP_CAPABLE", routed,
         _rule("client", "output", CAPABLE, STRIP), "local-filter"),
    Case("server-denies", "server: `allow_join_initial_addr_port 0`, the client has only `subflow` "
         "endpoints", routed, _sysctl("server", net__mptcp__allow_join_initial_addr_port="0"),
         "peer-denies-initial-address"),
    Case("userspace", "client: `path_manager userspace`, no daemon", routed,
         _sysctl("client", net__mptcp__pm_type="1"), "userspace-path-manager"),
    Case("backup", "client: `subflow backup`, the server announces an address: a second join to "
         "its first one", direct, _backup, "first-address-out-of-reach", 1, enough=True,
         laminar=True),
    Case("announces-unreachable", "server: it announces an address that nothing answers at", routed,
         _announce_nothing, "announced-no-answer", enough=True,
         by_hand=lambda lab: lab.pm("server").delete(lab.pm("server").endpoints()[0])),
    Case("not-listening", "server: it announces an address that it does not listen on", routed,
         _one_address, "join-refused", server="one", serve_again="mptcp", enough=True),
]  # fmt: skip

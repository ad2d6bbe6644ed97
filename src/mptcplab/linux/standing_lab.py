"""Persistent labs: labs that outlive the command that made them, and how to reach them.

Each is a detached supervisor that listens on a socket in the registry, a directory of the user's
own.  A lab holds a lock on its entry for as long as it lives, so an entry that can be locked is
what a dead lab left; the kernel has removed all else.  Whoever changes what the registry holds has
locked the registry itself, so that of several labs of one name one is there, socket and all, and
the others are refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import selectors
import signal
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.kernel.syscalls import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, setns
from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.lab.processes import become_part_of
from mptcplab.linux.lab.supervisor import start_detached
from mptcplab.linux.path_management.link_aware import LinkStates
from mptcplab.linux.path_management.link_awareness import LinkAwareness
from mptcplab.linux.probes.link_state import LinkWatch
from mptcplab.loop.stop_signals import Stopped
from mptcplab.network.topology import Host, Interface, InterfaceEnd, SwitchEnd, Topology

_MESSAGE_BYTES: Final = 1 << 16
_DOWN_TIMEOUT_S: Final = 5.0
_ANSWER_S: Final = 10.0
_SILENT_S: Final = 5.0
_MOST_CLIENTS: Final = 64
_UNFINISHED: Final = ".unfinished"
_IN_USE: Final = "a lab named {} is up already; take it down or choose another name"
_NAMESPACES: Final = ("user", "pid", "mnt")
_UCRED: Final = struct.Struct("=iII")  # struct ucred: process, user, group


class LabError(RuntimeError):
    """A persistent lab is not there, or refuses a request; the text says which."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A persistent lab's entry in the registry."""

    name: str
    topology: str
    hosts: tuple[str, ...]
    created_s: float

    def to_json(self) -> str:
        """Return the entry as it is written."""
        return json.dumps(
            {
                "name": self.name,
                "topology": self.topology,
                "hosts": self.hosts,
                "created_s": self.created_s,
            }
        )


def registry() -> Path:
    """Return the user's registry, made if need be; LabError where others could write to it."""
    if os.geteuid() == 0:
        path = Path("/run/mptcplab")
    elif "XDG_RUNTIME_DIR" in os.environ:
        path = Path(os.environ["XDG_RUNTIME_DIR"], "mptcplab")
    else:
        path = Path(f"/tmp/mptcplab-{os.geteuid()}")  # noqa: S108 - ownership is checked below
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise LabError(f"{path}: not a directory that only you can write to; remove it")
    return path


def labs() -> list[Entry]:
    """Return the labs that are up, by name, and remove what dead ones left."""
    folder = registry()
    with _registry_locked(folder):
        return _living(folder)


@contextlib.contextmanager
def _registry_locked(folder: Path) -> Iterator[None]:
    """Change the registry alone; nobody holds it for long."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _living(folder: Path) -> list[Entry]:
    """Return the labs that are up, and remove what dead ones left; the registry is locked."""
    entries = []
    for path in sorted(folder.glob("*.json")):
        with path.open() as file:
            if _lock(file.fileno()):
                path.unlink()
                continue
            values = json.load(file)
            entries.append(Entry(**{**values, "hosts": tuple(values["hosts"])}))
    names = {entry.name for entry in entries}
    for path in [*folder.glob("*.sock"), *folder.glob(f"*{_UNFINISHED}")]:
        if path.stem not in names:
            path.unlink()
    return entries


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find(name: str | None) -> Entry:
    """Return the lab of that name, or the only one there is; LabError otherwise."""
    standing = labs()
    names = ", ".join(entry.name for entry in standing) or "none"
    if name is None:
        if len(standing) == 1:
            return standing[0]
        raise LabError(
            "no lab is up: start one with `mptcplab lab up report`"
            if not standing
            else f"several labs are up, say which with --name: {names}"
        )
    for entry in standing:
        if entry.name == name:
            return entry
    raise LabError(f"no lab named {name} is up (up: {names})")


# -- the lab's side


def start(
    name: str,
    topology: Topology,
    make: Callable[[], Lab],
    on_ready: Callable[[Sequence[str]], None],
) -> None:
    """Build a lab in a supervisor that stays, and return when it is up.

    ``on_ready`` is given what the lab does otherwise than asked.  LabError for a name in use; else
    as :func:`mptcplab.linux.lab.lab.open_lab`.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise LabError(f"{name!r} is no name for a lab; use letters, digits, - and _")
    if any(entry.name == name for entry in labs()):
        raise LabError(_IN_USE.format(name))
    folder = registry()

    def work(send: Callable[[object], None]) -> None:
        lab = make()
        hosts = tuple(host.name for host in topology.hosts)
        entry = Entry(name, topology.name, hosts, time.time())
        with Registration(folder, entry) as registration:
            send(list(lab.notes))
            with contextlib.suppress(Stopped):
                _serve(lab, registration.listener)
            lab.close()

    start_detached(work, on_ready)


class Registration:
    """A lab's entry and socket, there while the lab is; a context manager."""

    def __init__(self, folder: Path, entry: Entry) -> None:
        """Make them; LabError where a lab of that name is up."""
        self._folder = folder
        self._path = folder / f"{entry.name}.json"
        self._socket_path = folder / f"{entry.name}.sock"
        with _registry_locked(folder):
            if any(other.name == entry.name for other in _living(folder)):
                raise LabError(_IN_USE.format(entry.name))
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.listener.bind(str(self._socket_path))
            self.listener.listen()
            fresh = self._path.with_suffix(_UNFINISHED)
            self._file = fresh.open("x")
            self._file.write(entry.to_json())
            self._file.flush()
            _lock(self._file.fileno())
            fresh.rename(self._path)  # what is read there is whole, and locked

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_: object) -> None:
        with _registry_locked(self._folder):
            self._path.unlink(missing_ok=True)
            self._socket_path.unlink(missing_ok=True)
        self.listener.close()
        self._file.close()


class _Clients:
    """The connections to a lab's socket: each sends one request, whenever it likes.

    One that stays silent for too long is closed, and where there are very many, the next wait.
    """

    def __init__(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        self._listener = listener
        self._selector = selector
        self._since_s: dict[socket.socket, float] = {}
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)
        self.requests: list[tuple[socket.socket, bytes]] = []
        """Those that have come and are not answered yet."""

    @property
    def timeout_s(self) -> float | None:
        """How long to wait for whatever comes next before :meth:`forget_silent`."""
        if not self._since_s:
            return None
        return max(0.0, min(self._since_s.values()) + _SILENT_S - time.monotonic())

    def forget_silent(self) -> None:
        """Close those that have said nothing for too long."""
        for peer, since_s in list(self._since_s.items()):
            if time.monotonic() - since_s >= _SILENT_S:
                self._forget(peer)
                peer.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it has gone again, or there are no descriptors
            peer, _ = self._listener.accept()
            peer.setblocking(False)
            self._since_s[peer] = time.monotonic()
            self._selector.register(peer, selectors.EVENT_READ, partial(self._read, peer))
        if len(self._since_s) == _MOST_CLIENTS:
            self._selector.unregister(self._listener)

    def _read(self, peer: socket.socket) -> None:
        self._forget(peer)
        try:
            self.requests.append((peer, peer.recv(_MESSAGE_BYTES)))
        except OSError:
            peer.close()

    def _forget(self, peer: socket.socket) -> None:
        self._selector.unregister(peer)
        if len(self._since_s) == _MOST_CLIENTS:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        del self._since_s[peer]


def _serve(lab: Lab, listener: socket.socket) -> None:
    """Answer requests until asked to go down; Stopped comes from a signal."""
    handlers = _handlers(lab)
    with selectors.DefaultSelector() as selector:
        for descriptor, read in [
            *_following(lab).items(),  # before endpoints follow what the VLANs of a NIC do
            *_awareness(lab).readers().items(),
        ]:
            selector.register(descriptor, selectors.EVENT_READ, read)
        clients = _Clients(listener, selector)
        while True:
            for key, _ in selector.select(clients.timeout_s):
                key.data()
            clients.forget_silent()
            while clients.requests:
                peer, body = clients.requests.pop()
                with peer, contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    request = json.loads(body)
                    if request["do"] == "down":
                        peer.send(b"{}")
                        return
                    _answer(peer, handlers, request)
            _reap()


def _awareness(lab: Lab) -> LinkAwareness:
    """Let endpoints follow their links, whoever sets these up or down, where the lab wants that."""
    hosts = [
        name
        for name, settings in lab.tunables.items()
        if settings.enabled and settings.path_manager == "link-aware"
    ]
    states = LinkStates(lab.topology)
    for link in lab.topology.links:
        states.set_link(link.name, up=True)  # here the interfaces alone tell
    return LinkAwareness(lab, states, hosts, lambda _: None)


def _following(lab: Lab) -> dict[int, Callable[[], None]]:
    """Let hosts do what the kernel does not, whoever sets interfaces up and down.

    Where VLANs are separate interfaces, they go up and down with their NIC; and an interface that
    was set down has its routes again when it is set up.
    """
    readers: dict[int, Callable[[], None]] = {}
    for host in lab.topology.hosts:
        with lab.enter(host.name):
            watch = LinkWatch()
        readers[watch.fileno()] = partial(_follow, lab, host, watch)
    return readers


def _follow(lab: Lab, host: Host, watch: LinkWatch) -> None:
    interfaces = {interface.name for interface in host.interfaces}
    nics = {nic.name for nic in host.nics}
    for name, up in watch.changes():
        with contextlib.suppress(OSError, KeyError):  # it has changed again meanwhile
            if name in interfaces and up:
                lab.restore_routes(host.name, name)
            elif name in nics - interfaces:
                lab.set_nic(host.name, name, up=up)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            os.waitpid(-1, os.WNOHANG)


Handler = Callable[[Mapping[str, Any]], tuple[dict[str, Any], list[int]]]


def _answer(
    peer: socket.socket, handlers: Mapping[str, Handler], request: Mapping[str, Any]
) -> None:
    descriptors: list[int] = []
    try:
        answer, descriptors = handlers[request["do"]](request)
    except (OSError, ValueError, RuntimeError) as error:
        answer = {"error": str(error)}
    except KeyError as error:
        answer = {"error": f"this lab has no {error.args[0]}"}
    body = json.dumps(answer).encode()
    socket.send_fds(peer, [body], descriptors)


def _handlers(lab: Lab) -> dict[str, Handler]:
    def enter(request: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        host = lab.namespace(request["host"])
        return {}, [*namespaces, host.descriptor, names]

    def links(_request: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        interfaces = [
            _describe_interface(lab, host, interface)
            for host in lab.topology.hosts
            for interface in host.interfaces
        ]
        return {"links": [_describe(lab, name) for name in lab.links], "interfaces": interfaces}, []

    def set_part(request: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        kind, name, up = request["kind"], request["name"], request["up"]
        host, _, part = name.partition(":")
        if kind == "link":
            _set_link(lab, name, up)
        elif kind == "interface":
            lab.set_interface(host, part, up=up)
        else:
            lab.set_nic(host, part, up=up)
        return {}, []

    namespaces = [
        os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _NAMESPACES
    ]
    names = os.memfd_create("hosts")  # as a file, since it may be longer than a message
    os.write(names, lab.names)
    return {"enter": enter, "links": links, "set": set_part}


def _describe(lab: Lab, name: str) -> dict[str, Any]:
    link = lab.link(name)
    readings = link.readings()
    ends = (link.link.a, link.link.b)
    places = [place for end in ends for place in _interfaces_at(lab, end)]
    down = [place for place in places if not lab.interface_is_set_up(place)]
    return {
        "name": name,
        "a": str(link.link.a),
        "b": str(link.link.b),
        "environment": link.link.environment,
        "spare": link.link.spare,
        "up": link.up and not any(place in ends for place in down),
        "set_down": [str(place) for place in down],
        "driver": link.driver,
        "rate_bps": link.channel("forward").rate_bps,
        "rtt_ns": link.channel("forward").delay_ns + link.channel("backward").delay_ns,
        "tx_bytes": [readings[d].tx_bytes for d in ("forward", "backward")],
        "drops": [readings[d].drops_queue for d in ("forward", "backward")],
    }


def _set_link(lab: Lab, name: str, up: bool) -> None:
    """Plug a cable in or pull it; what is to carry frames again has its interfaces set up too."""
    link = lab.link(name)
    link.set_up(up)
    places = [place for end in (link.link.a, link.link.b) for place in _interfaces_at(lab, end)]
    for place in places if up else ():
        if not lab.interface_is_set_up(place):
            lab.set_interface(place.host, place.interface, up=True)


def _interfaces_at(lab: Lab, end: InterfaceEnd | SwitchEnd) -> Sequence[InterfaceEnd]:
    """Return the interface at a link's end, or those that the switch there has cables to."""
    if isinstance(end, InterfaceEnd):
        return [end]
    return next(each.ports for each in lab.topology.switches if each.name == end.switch)


def _describe_interface(lab: Lab, host: Host, interface: Interface) -> dict[str, Any]:
    """Return an interface with what it is part of: the link that ends at it, or at its switch."""
    place = InterfaceEnd(host.name, interface.name)
    link = next(
        (
            link
            for link in lab.topology.links
            for end in (link.a, link.b)
            if place in _interfaces_at(lab, end)
        ),
        None,
    )
    return {
        "name": str(place),
        "host": host.name,
        "nic": interface.nic,
        "environment": link.environment if link else "",
        "rate_bps": link.forward.rate_bps if link else None,
        "spare": link is not None and link.spare,
        "up": lab.interface_is_set_up(place),
    }


# -- the caller's side


def ask(entry: Entry, request: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Send one request to a lab; return its answer and the descriptors that came with it.

    LabError where the lab refuses or has just gone.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(_ANSWER_S)
        try:
            channel.connect(str(registry() / f"{entry.name}.sock"))
            channel.send(json.dumps(request).encode())
            body, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 8)
        except OSError as error:
            why = error.strerror or str(error)
            raise LabError(f"lab {entry.name} does not answer: {why}") from error
    answer: dict[str, Any] = json.loads(body) if body else {"error": "it went down"}
    if "error" in answer:
        raise LabError(f"lab {entry.name}: {answer['error']}")
    return answer, list(descriptors)


def execute(entry: Entry, host: str, argv: Sequence[str]) -> int:
    """Run a program on a host of a lab, on this terminal; return its exit status.

    It is in the lab's PID namespace, so it ends with the lab.  LabError for an unknown host or
    program.
    """
    if host not in entry.hosts:
        known = ", ".join(entry.hosts)
        raise LabError(f"lab {entry.name} has no host {host}; its hosts are {known}")
    _, (user, pids, mounts, network, file) = ask(entry, {"do": "enter", "host": host})
    names = os.pread(file, os.fstat(file).st_size, 0)
    folder = Path.cwd()
    if os.geteuid() != 0:
        setns(user, CLONE_NEWUSER)
    setns(pids, CLONE_NEWPID)
    setns(mounts, CLONE_NEWNS)
    with contextlib.suppress(OSError):
        os.chdir(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program's to handle, as in a shell

    def enter_host() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        become_part_of(host, network, names)

    try:
        process = subprocess.Popen(list(argv), preexec_fn=enter_host)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]}: no such program") from error
    try:
        status = process.wait()
    except BaseException:  # a stop signal: what was run for this command ends with it
        process.terminate()
        raise
    return status if status >= 0 else 128 - status


def take_down(entry: Entry) -> None:
    """Take a lab down and wait until nothing of it is left; one that does not answer is killed.

    LabError where it is still up after that.
    """
    supervisor = None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        with contextlib.suppress(OSError):
            channel.settimeout(_DOWN_TIMEOUT_S)
            channel.connect(str(registry() / f"{entry.name}.sock"))
            credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            supervisor = os.pidfd_open(_UCRED.unpack(credentials)[0])
            channel.send(json.dumps({"do": "down"}).encode())
        if supervisor is None:  # it went by itself, or its socket did
            supervisor = _holder_of(entry)
            if supervisor is None:
                return
            signal.pidfd_send_signal(supervisor, signal.SIGTERM)
        try:
            # the first process of a PID namespace ends when all others in it have
            if not select.select([supervisor], [], [], _DOWN_TIMEOUT_S)[0]:
                signal.pidfd_send_signal(supervisor, signal.SIGKILL)
                select.select([supervisor], [], [], _DOWN_TIMEOUT_S)
        finally:
            os.close(supervisor)
    if entry in labs():  # which removes the entry of one that had to be killed
        raise LabError(f"lab {entry.name} is still up: its processes do not end")


def _holder_of(entry: Entry) -> int | None:
    """Return a descriptor of the process that holds a lab's entry locked, None where none does."""
    path = registry() / f"{entry.name}.json"
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if link.samefile(path):
                return os.pidfd_open(int(link.parts[2]))
    return None

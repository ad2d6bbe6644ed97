"""A virtual machine with a kernel of its own and this machine's files, which it cannot change.

QEMU boots the kernel's image; the root file system is this machine's ``/``, through virtiofs, under
an overlay in the guest's memory.  virtiofsd is given a view of ``/`` that is read-only, so that no
guest could write, whatever it did.  There is no network.  Both programs die with the process that
started them.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kernels.debian import Kernel

from mptcplab.linux.kernel.syscalls import (
    CLONE_NEWNS,
    MS_REC,
    MS_SLAVE,
    mount,
    set_parent_death_signal,
    unshare,
)

GUEST: Final = Path(__file__).with_name("guest.sh")
# Debian 12 and 13, and others
_VIRTIOFSD: Final = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/bin/virtiofsd")
_MEMORY: Final = "3G"  # taken as it is used; the overlay is in it
_SIGN_OF_LIFE_S: Final = 15.0
"""Under KVM process 1 is there in two seconds; some machines offer a KVM that boots nothing."""
_POLL_S: Final = 0.2

_SYS_MOUNT_SETATTR: Final = 442  # the same on all architectures, from Linux 5.12 on
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 1
_MS_BIND: Final = 4096  # include/uapi/linux/mount.h


class MachineError(Exception):
    """The virtual machine could not be started, or did not come to its end; says why."""


class TimeLimitError(MachineError):
    """It was stopped at its time limit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a machine left: files of /run/results by name, what it took, and by what it ran."""

    files: Mapping[str, bytes]
    seconds: float
    accelerator: str


def obstacle() -> str | None:
    """Return why no machine can be started here, or None."""
    if platform.machine() != "x86_64":
        return f"this machine is {platform.machine()}; expected x86_64, as Debian's kernels are"
    if os.geteuid() != 0:
        return "virtiofsd needs root here"
    if shutil.which("qemu-system-x86_64") is None:
        return "qemu-system-x86_64 is not installed: install qemu-system-x86"
    if _virtiofsd() is None:
        return "virtiofsd is not installed: install virtiofsd (Debian 12: qemu-system-common)"
    return None


def _virtiofsd() -> str | None:
    found = [path for path in _VIRTIOFSD if Path(path).exists()]
    return found[0] if found else shutil.which("virtiofsd")


def run(kernel: Kernel, script: str, limit_s: float, console: Path) -> Outcome:
    """Boot a kernel, have sh run ``script`` there, and return what it left in /run/results.

    ``console`` gets all that the machine wrote.  KVM is used where it boots.  Raises MachineError.
    """
    start = time.monotonic()
    error: MachineError | None = None
    for accelerator in ["kvm", "tcg"] if os.access("/dev/kvm", os.W_OK) else ["tcg"]:
        try:
            with _Machine(kernel, script, accelerator, console) as machine:
                files = machine.wait(start + limit_s)
            return Outcome(files, time.monotonic() - start, accelerator)
        except _NoSignOfLifeError as found:
            error = found
    raise error or MachineError("no accelerator")


class _NoSignOfLifeError(MachineError):
    pass


class _Machine:
    """QEMU and its virtiofsd; a context manager that ends them."""

    def __init__(self, kernel: Kernel, script: str, accelerator: str, console: Path) -> None:
        self._kernel = kernel
        self._script = script
        self._accelerator = accelerator
        self._console = console
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Machine:
        with self._stack:
            self._folder = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mptcplab-kernel-"))
            )
            self._console.write_bytes(b"")
            self._results = self._folder / "results.tar"
            self._start_file_system()
            self._qemu = self._started(self._qemu_command())
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_file_system(self) -> None:
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self._folder / "fs.sock"))
        listener.listen(1)
        os.set_inheritable(listener.fileno(), True)
        place = self._folder / "host"
        place.mkdir()
        program = _virtiofsd() or "virtiofsd"
        command = [program, f"--fd={listener.fileno()}"]
        if program == _VIRTIOFSD[0]:  # QEMU's own, before it was written anew in Rust
            command += ["-o", f"source={place}", "-o", "cache=always", "-f"]
        else:
            command += [f"--shared-dir={place}", "--cache=always"]
        self._started(command, shown_at=place, keep=(listener.fileno(),))

    def _started(
        self, command: Sequence[str], *, shown_at: Path | None = None, keep: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def prepare() -> None:
            set_parent_death_signal(signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            if shown_at is not None:
                _show_read_only(shown_at)

        log = self._stack.enter_context((self._folder / "log").open("ab"))
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=keep,
                preexec_fn=prepare,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise MachineError(f"{command[0]} could not be started: {error}") from error
        self._stack.callback(_end, process)
        return process

    def _qemu_command(self) -> list[str]:
        script = self._folder / "script"
        script.write_text(self._script)
        arguments = f"{self._kernel.modules} {script}"
        first_root = self._kernel.first_root
        if first_root is None:
            start = f"root=host rootfstype=virtiofs ro init={GUEST} -- {arguments}"
        else:
            start = f"rdinit=/init -- {GUEST} {arguments}"
        parameters = f"console=ttyS0 quiet panic=-1 nokaslr mitigations=off {start}"
        return [
            *("qemu-system-x86_64", "-accel", self._accelerator),
            *("-cpu", "host" if self._accelerator == "kvm" else "max"),
            *("-machine", "q35,memory-backend=memory", "-smp", str(min(os.cpu_count() or 1, 4))),
            *("-object", f"memory-backend-memfd,id=memory,size={_MEMORY},share=on", "-m", _MEMORY),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-serial", f"file:{self._console}"),
            *("-chardev", f"socket,id=fs,path={self._folder / 'fs.sock'}"),
            *("-device", "vhost-user-fs-pci,chardev=fs,tag=host"),
            *("-chardev", f"file,id=results,path={self._results}"),
            *("-device", "virtio-serial", "-device", "virtserialport,chardev=results"),
            *("-kernel", str(self._kernel.image), "-append", parameters),
            *(() if first_root is None else ("-initrd", str(first_root))),
        ]

    def wait(self, deadline: float) -> dict[str, bytes]:
        """Return the results once the machine has switched itself off."""
        hopeless = time.monotonic() + _SIGN_OF_LIFE_S
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._qemu.wait(_POLL_S)
                break
            now = time.monotonic()
            if self._accelerator == "kvm" and now > hopeless and not self._alive():
                raise _NoSignOfLifeError("the kernel said nothing under KVM")
            if now > deadline:
                raise TimeLimitError(f"stopped at its time limit; {self._last_words()}")
        if not self._alive():
            raise _NoSignOfLifeError(f"QEMU ended before the kernel ran; {self._last_words()}")
        try:
            with tarfile.open(fileobj=io.BytesIO(self._results.read_bytes())) as tar:
                return dict(_files(tar))
        except tarfile.TarError as error:
            raise MachineError(f"it left no results; {self._last_words()}") from error

    def _alive(self) -> bool:
        # SeaBIOS and the image's own loader write as well
        return GUEST_MARK in self._console.read_bytes()

    def _last_words(self) -> str:
        log = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        console = self._console.read_text(errors="replace").strip().splitlines()
        said = (log or console or ["nothing was said"])[-1]
        return f"last: {said.strip()} (all of it: {self._console})"


GUEST_MARK: Final = b"guest: process 1"
"""What guest.sh says first."""


def _files(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar.getmembers():
        if (file := tar.extractfile(member)) is not None:
            yield Path(member.name).name, file.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _show_read_only(place: Path) -> None:
    """Show all of this machine's files at ``place``, read-only, in a mount namespace of its own."""
    unshare(CLONE_NEWNS)
    mount("", "/", "", MS_REC | MS_SLAVE)
    mount("/", str(place), "", _MS_BIND | MS_REC)
    # struct mount_attr: what to set, what to clear, propagation, user namespace
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(
        _SYS_MOUNT_SETATTR,
        ctypes.c_int(_AT_FDCWD),
        str(place).encode(),
        ctypes.c_uint(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    ):
        raise OSError(ctypes.get_errno(), "mount_setattr")


def python_command(*arguments: str) -> str:
    """Return a command for sh that runs this Python with what it finds modules by."""
    path = shlex.quote(":".join(each for each in sys.path if each))
    return f"PYTHONPATH={path} {shlex.join([sys.executable, *arguments])}"

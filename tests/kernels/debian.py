"""Debian's kernels, as files: found, fetched and unpacked by apt and dpkg, and nothing installed.

apt works in a folder of its own, with Debian's archives and nothing of this machine's sources, so
that kernels of other releases are found as well; its keys are those of ``debian-archive-keyring``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kernels.initramfs import initramfs, modules_needed

_KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ARCHIVES: Final = (
    ("http://deb.debian.org/debian", "bookworm"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
    ("http://deb.debian.org/debian", "trixie"),
    ("http://deb.debian.org/debian-security", "trixie-security"),
    ("http://deb.debian.org/debian", "trixie-backports"),
)
NEWEST: Final = "newest"
_NAME: Final = re.compile(r"linux-image-(\d[0-9.]*[0-9](?:[-+][0-9a-z.+]+)?)-cloud-amd64")
_PARTS: Final = re.compile(r"linux-(?:image|binary|modules)-\S+")
"""From Linux 6.19 on Debian splits the kernel, and ``linux-image`` depends on its parts."""
_DONE: Final = ".unpacked"
_PATIENCE_S: Final = 180


class NoSuchKernelError(Exception):
    """A kernel, or what it takes to fetch one, is not to be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that lies unpacked: its release (``uname -r``), image, and root of its modules.

    ``first_root`` is an initramfs where it takes one to reach this machine's files.
    """

    release: str
    image: Path
    root: Path
    first_root: Path | None = None

    @property
    def modules(self) -> Path:
        """What belongs at /lib/modules."""
        return self.root / "lib" / "modules"


def choose(wanted: str, names: list[str]) -> str:
    """Return the newest package that ``wanted`` ("6.12", "newest") stands for.

    ``names`` may hold other packages too.  Raises NoSuchKernelError where none fits.
    """
    versions = {}
    for name in names:
        match = _NAME.fullmatch(name)
        # "6.12" alone is a package that only depends on the newest
        if match and len(numbers := re.findall(r"\d+", match[1])) > 2:
            versions[name] = [int(number) for number in numbers]
    if wanted != NEWEST:
        asked = [int(number) for number in re.findall(r"\d+", wanted)]
        versions = {n: v for n, v in versions.items() if v[: len(asked)] == asked}
    if not versions or not re.fullmatch(rf"{NEWEST}|\d+(\.\d+)+", wanted):
        raise NoSuchKernelError(
            f"{wanted}: Debian has no cloud kernel of that version; expected one such as 6.12, or "
            f"{NEWEST}"
        )
    return max(versions, key=lambda name: versions[name])


class Apt:
    """apt in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, in which packages and kernels are kept for the next time."""
        for program, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("depmod", "kmod")):
            if shutil.which(program) is None:
                raise NoSuchKernelError(f"{program} is not installed: install {package}")
        if not _KEYS.exists():
            raise NoSuchKernelError(f"{_KEYS} is missing: install debian-archive-keyring")
        self._folder = folder
        state = folder / "apt"
        for each in ("lists/partial", "cache/archives/partial"):
            (state / each).mkdir(parents=True, exist_ok=True)
        sources = state / "sources.list"
        sources.write_text(
            "".join(f"deb [signed-by={_KEYS}] {url} {suite} main\n" for url, suite in _ARCHIVES)
        )
        self._configuration = state / "apt.conf"
        self._configuration.write_text(
            f'Dir::State "{state}";\nDir::Cache "{state}/cache";\n'
            f'Dir::Etc::SourceList "{sources}";\nDir::Etc::SourceParts "/dev/null";\n'
            'Acquire::Languages "none";\nAPT::Architecture "amd64";\nAPT::Sandbox::User "root";\n'
        )

    def _run(self, *arguments: str, folder: Path | None = None) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._configuration), "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                arguments,
                cwd=folder,
                env=environment,
                check=False,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
            )
        except subprocess.TimeoutExpired:
            raise NoSuchKernelError(f"{arguments[0]} took more than {_PATIENCE_S} s") from None
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
            raise NoSuchKernelError(f"{' '.join(arguments[:2])}: {last[-1]}")
        return done.stdout

    def resolve(self, versions: Sequence[str]) -> list[str]:
        """Return the package that each version stands for.

        Lists of packages are asked for anew unless all are there, and none is to be the newest.
        """
        kept = [path.parent.name for path in self._folder.glob(f"linux-image-*/{_DONE}")]
        if NEWEST not in versions:
            with contextlib.suppress(NoSuchKernelError):
                return [choose(version, kept) for version in versions]
        self._update()
        names = self._run("apt-cache", "pkgnames", "linux-image-").split()
        return [choose(version, names) for version in versions]

    def fetch(self, package: str) -> Kernel:
        """Return a kernel, fetched and unpacked unless it has been before."""
        root = self._folder / package
        if not (root / _DONE).exists():
            depends = self._run("apt-cache", "depends", "--important", package)
            parts = [package, *re.findall(rf"Depends: ({_PARTS.pattern})", depends)]
            self._unpack(parts, root)
            if not (root / "lib").exists():  # a package for merged /usr
                (root / "lib").symlink_to("usr/lib")
            self._run("depmod", "-b", str(root), _image(root)[0])
            (root / _DONE).touch()
        release, image = _image(root)
        needed = modules_needed(root / "lib" / "modules", release)
        first_root = None
        if needed:
            first_root = root / "initramfs"
            first_root.write_bytes(initramfs(self._busybox(), needed))
        return Kernel(release, image, root, first_root)

    def _busybox(self) -> Path:
        root = self._folder / "busybox-static"
        program = root / "bin" / "busybox"
        if not program.exists():
            self._unpack(["busybox-static"], root)
            merged = root / "usr" / "bin" / "busybox"
            if merged.exists():
                program.parent.mkdir(exist_ok=True)
                merged.rename(program)
        return program

    def _update(self) -> None:
        self._run("apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any")

    def _unpack(self, packages: list[str], root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        folder = root / "packages"
        folder.mkdir(parents=True)
        self._run("apt-get", "download", "-qq", *packages, folder=folder)
        for file in folder.glob("*.deb"):
            self._run("dpkg-deb", "-x", str(file), str(root))
        shutil.rmtree(folder)


def _image(root: Path) -> tuple[str, Path]:
    """Return release and image of the kernel that was unpacked to ``root``."""
    found = [(path.name.removeprefix("vmlinuz-"), path) for path in root.glob("boot/vmlinuz-*")]
    found += [(path.parent.name, path) for path in root.glob("lib/modules/*/vmlinuz")]
    if len(found) != 1:
        raise NoSuchKernelError(f"{root.name} holds {len(found)} kernels; expected one")
    return found[0]

"""The first root file system of kernels that have virtiofs as a module (Debian's before 6.12).

It holds busybox and the modules that lead to this machine's files, in the order in which they load.
Format: Documentation/driver-api/early-userspace/buffer-format.rst of Linux ("newc").
"""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_WANTED: Final = ("virtio_pci", "virtiofs")
_INIT: Final = """#!/busybox sh
/busybox mount -t proc proc /proc
for module in /modules/*; do /busybox insmod $module; done
/busybox mount -t virtiofs -o ro host /host
/busybox umount /proc
exec /busybox switch_root /host "$@"
"""


def modules_needed(modules: Path, release: str) -> list[Path]:
    """Return what must be loaded to mount virtiofs, dependencies first; none where it is built in.

    ``modules`` is what belongs at /lib/modules, after depmod.
    """
    folder = modules / release
    depends = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path.rpartition("/")[2].split(".")[0]] = [path, *needs.split()]
    needed: list[str] = []
    for name in _WANTED:
        # modules.dep names what a module needs from the nearest to the farthest
        needed += [path for path in reversed(depends.get(name, [])) if path not in needed]
    return [folder / path for path in needed]


def initramfs(busybox: Path, modules: list[Path]) -> bytes:
    """Return the archive; ``busybox`` must be linked statically."""
    entries: list[tuple[str, int, bytes]] = [
        *((name, stat.S_IFDIR | 0o755, b"") for name in ("proc", "host", "modules")),
        ("busybox", stat.S_IFREG | 0o755, busybox.read_bytes()),
        ("init", stat.S_IFREG | 0o755, _INIT.encode()),
    ]
    for number, path in enumerate(modules):
        content = path.read_bytes()
        if path.suffix == ".xz":
            content = lzma.decompress(content)
        entries.append((f"modules/{number:02}.ko", stat.S_IFREG | 0o644, content))
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(part for number, entry in enumerate(entries) for part in _entry(number, *entry))


def _entry(number: int, name: str, mode: int, content: bytes) -> Iterator[bytes]:
    encoded = name.encode() + b"\0"
    # ino mode uid gid nlink mtime filesize maj min rmaj rmin namesize check
    fields = (number + 1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    for part in (header, content):
        yield part
        yield bytes(-len(part) % 4)

"""TCP congestion controls from a BPF object, registered with the kernel for as long as we live.

An object holds congestion controls as BPF struct_ops (``struct tcp_congestion_ops`` in section
``.struct_ops`` or ``.struct_ops.link``).  libbpf loads it; no compiler is needed.  What registers
one is a link, held by a descriptor of this process and pinned nowhere: when the process ends,
however it does, the kernel unregisters it; sockets that still use it keep it until they are closed.

Names of congestion controls are the machine's, not a namespace's.  So each is registered under a
name of its own (``lia`` as ``lia_5f03c2``), which is written into the object before it is loaded.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import secrets
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mptcplab.linux.errors import MachineCannotError

NAME_MAX: Final = 15
"""Bytes of a congestion control's name (TCP_CA_NAME_MAX less its end, include/net/tcp.h)."""

_LIBRARY: Final = "libbpf.so.1"
_BTF: Final = Path("/sys/kernel/btf/vmlinux")
_JIT: Final = Path("/proc/sys/net/core/bpf_jit_enable")
_NEEDED_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
_CAP_SYS_ADMIN: Final = 21
_FIRST_KERNEL: Final = (6, 4)  # the first with links of struct_ops (BPF_F_LINK)

# include/uapi/linux/bpf.h and btf.h
_BPF_MAP_TYPE_STRUCT_OPS: Final = 26
_BPF_F_LINK: Final = 1 << 13
_BPF_STRUCT_OPS: Final = 44
_BTF_KIND_STRUCT: Final = 4

_SECTIONS: Final = (b".struct_ops", b".struct_ops.link")
_OPS: Final = "tcp_congestion_ops"
_SUFFIX_DIGITS: Final = 6
_TRIES: Final = 8
_LOG_LINES: Final = 3


class BpfError(MachineCannotError):
    """A BPF object cannot be used on this machine; the text says why, and what to do."""


def obstacle() -> str | None:
    """Return why this machine registers no congestion control by BPF, and what to do, or None.

    Looks only; that an object is loaded is known when it is.
    """
    release = platform.release()
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if version < _FIRST_KERNEL:
        needed = ".".join(map(str, _FIRST_KERNEL))
        return f"Linux {release} has no links of struct_ops; a kernel from {needed} on"
    if not _BTF.exists():
        return f"this kernel tells no types ({_BTF} is missing); one with CONFIG_DEBUG_INFO_BTF=y"
    if _read(_JIT).strip() == "0":
        return "BPF is interpreted here; sysctl net.core.bpf_jit_enable=1"
    missing = _missing_capabilities()
    if missing:
        return f"it takes {', '.join(missing)} of the machine itself; root, outside of containers"
    try:
        _library()
    except OSError as error:
        return f"{_LIBRARY} is missing ({error}); install libbpf (Debian, Ubuntu: libbpf1)"
    return None


class Registration:
    """The congestion controls of an object while they are registered; a context manager.

    ``names`` has, by the name in the object, the one that sockets are to ask for (TCP_CONGESTION).
    """

    def __init__(self, source: Path) -> None:
        """Load the object in a file and register what it has; BpfError where that cannot be."""
        self.names: dict[str, str] = {}
        self._links: list[int] = []
        self._objects: list[tuple[_Object, bytes]] = []
        why = obstacle()
        if why is not None:
            raise BpfError(f"{source.name} cannot be loaded: {why}")
        image = _image(source)
        try:
            self._register(source, image)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unregister them; a second call changes nothing."""
        for link in self._links:
            os.close(link)
        for loaded, _ in self._objects:
            loaded.close()
        self._links, self._objects = [], []

    def _register(self, source: Path, image: bytes) -> None:
        controls = controls_of(source, image)
        for _ in range(_TRIES):
            suffix = "_" + secrets.token_hex(_SUFFIX_DIGITS // 2)
            names = {name: name[: NAME_MAX - len(suffix)] + suffix for name in controls}
            if len(set(names.values())) < len(names):
                raise BpfError(f"{source}: {', '.join(names)} begin alike; expected short names")
            renamed = _renamed(image, controls, names)
            loaded = _Object(source, renamed)
            self._objects.append((loaded, renamed))
            try:
                self._links += loaded.register()
            except FileExistsError:  # another lab has the same suffix
                self.close()
                continue
            self.names = names
            return
        raise BpfError(f"{source}: no name is free for {', '.join(controls)}; close other labs")


def try_loading(source: Path) -> None:
    """Load an object and let it go: its programs are verified, nothing is registered.

    Raises BpfError where that fails.
    """
    why = obstacle()
    if why is not None:
        raise BpfError(f"{source.name} cannot be loaded: {why}")
    image = _image(source)
    controls = controls_of(source, image)
    _Object(source, _renamed(image, controls, {name: name for name in controls})).close()


def _image(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise BpfError(f"{source}: {error.strerror}; expected a BPF object") from error


@dataclass(frozen=True, slots=True)
class _Name:
    """Where in the file the name of a congestion control is, and how many bytes it may have."""

    offset: int
    size: int


def controls_of(source: Path, image: bytes) -> dict[str, _Name]:
    """Return the congestion controls of an object file, by name; BpfError where it has none."""
    wanted = f"expected a BPF object with struct {_OPS} in section .struct_ops"
    try:
        sections = _sections(image)
        types = next(data for name, _, data in sections if name == b".BTF")
        place = _member_offset(image[types.offset : types.offset + types.size], _OPS, "name")
        found = {}
        for number, (name, _, data) in enumerate(sections):
            if name in _SECTIONS:
                for start in _objects_in(image, sections, number):
                    where = _Name(data.offset + start + place, NAME_MAX)
                    text = image[where.offset : where.offset + where.size].split(b"\0")[0]
                    found[text.decode("ascii")] = where
    except (StopIteration, struct.error, LookupError, ValueError) as error:
        raise BpfError(f"{source} is none that can be used; {wanted}") from error
    if not found or "" in found:
        raise BpfError(f"{source} has no congestion control; {wanted}")
    return found


def _renamed(image: bytes, controls: dict[str, _Name], names: dict[str, str]) -> bytes:
    """Return an object with other names, all of it in the section that every libbpf 1.x knows."""
    renamed = bytearray(image)
    for name, where in controls.items():
        text = names[name].encode("ascii")
        renamed[where.offset : where.offset + where.size] = text.ljust(where.size, b"\0")
    # libbpf before 1.2 passes over ".struct_ops.link"; that it is a link is said of the map
    return bytes(renamed).replace(b".struct_ops.link\0", b".struct_ops\0link\0")


@dataclass(frozen=True, slots=True)
class _Span:
    offset: int
    size: int


_Section = tuple[bytes, int, _Span]  # name, number of the section it belongs to, place in the file


def _sections(image: bytes) -> list[_Section]:
    """Return the sections of an ELF file of 64 bits and this machine's byte order (elf(5))."""
    if image[:5] != b"\x7fELF\x02" or image[5] != _OWN_ORDER:
        raise ValueError("no ELF file of this machine's byte order")
    (headers,) = struct.unpack_from("=Q", image, 40)
    size, count, names_in = struct.unpack_from("=HHH", image, 58)
    rows = [struct.unpack_from("=IIQQQQIIQQ", image, headers + size * n) for n in range(count)]
    texts = rows[names_in][4]
    return [(_text(image, texts + row[0]), row[6], _Span(row[4], row[5])) for row in rows]


_OWN_ORDER: Final = 1 if struct.pack("=H", 1) == b"\1\0" else 2


def _text(data: bytes, start: int) -> bytes:
    return data[start : data.index(b"\0", start)]


def _objects_in(image: bytes, sections: list[_Section], number: int) -> Iterator[int]:
    """Yield where in a section its variables are."""
    symbols = next(data for name, _, data in sections if name == b".symtab")
    for place in range(symbols.offset, symbols.offset + symbols.size, 24):
        _, info, _, section, value, _ = struct.unpack_from("=IBBHQQ", image, place)
        if section == number and info & 15 == 1:  # STT_OBJECT
            yield value


def _member_offset(types: bytes, type_name: str, member_name: str) -> int:
    """Return where in a structure a member is, in bytes; LookupError where there is none."""
    library = _library()
    btf = library.btf__new(types, len(types))
    if not btf:
        raise LookupError("types that libbpf cannot read")
    try:
        number = library.btf__find_by_name_kind(btf, type_name.encode(), _BTF_KIND_STRUCT)
        if number < 0:
            raise LookupError(type_name)
        start = library.btf__type_by_id(btf, number)
        _, info, _ = struct.unpack("=III", ctypes.string_at(start, 12))
        for index in range(info & 0xFFFF):
            member = ctypes.string_at(start + 12 + 12 * index, 12)
            name, _, offset_bits = struct.unpack("=III", member)
            if library.btf__name_by_offset(btf, name) == member_name.encode():
                return int(offset_bits & 0xFFFFFF) // 8
        raise LookupError(member_name)
    finally:
        library.btf__free(btf)


class _Object:
    """An object that libbpf has loaded: its programs are verified, and nothing is registered."""

    def __init__(self, source: Path, image: bytes) -> None:
        self._source = source
        self._library = _library()
        self._log: list[str] = []
        self._pointer: Any = None
        with_log = _print_into(self._log)
        self._library.libbpf_set_print(with_log)
        try:
            self._pointer = self._library.bpf_object__open_mem(image, len(image), None)
            if not self._pointer:
                self._fail("opened", ctypes.get_errno())
            for each in self._maps():
                self._library.bpf_map__set_map_flags(each, _BPF_F_LINK)
            result = self._library.bpf_object__load(self._pointer)
            if result:
                self._fail("loaded", -result)
        finally:
            self._library.libbpf_set_print(_PRINT())

    def register(self) -> list[int]:
        """Register what it holds and return the links; FileExistsError where a name is taken."""
        links: list[int] = []
        try:
            for each in self._maps():
                attached = self._library.bpf_map__attach_struct_ops(each)
                if not attached:
                    self._refused(ctypes.get_errno())
                link = self._library.bpf_link__fd(attached)
                descriptor = self._library.bpf_map__fd(each)
                if link == descriptor:  # libbpf before 1.2: the map is filled, not yet linked
                    link = self._library.bpf_link_create(descriptor, 0, _BPF_STRUCT_OPS, None)
                    if link < 0:
                        self._refused(-link)
                links.append(link)
        except BaseException:
            for link in links:
                os.close(link)
            raise
        return links

    def close(self) -> None:
        """Give up what libbpf holds; what is registered keeps what it needs."""
        if self._pointer:
            self._library.bpf_object__close(self._pointer)
            self._pointer = None

    def _maps(self) -> Iterator[Any]:
        each = self._library.bpf_object__next_map(self._pointer, None)
        while each:
            if self._library.bpf_map__type(each) == _BPF_MAP_TYPE_STRUCT_OPS:
                yield each
            each = self._library.bpf_object__next_map(self._pointer, each)

    def _fail(self, what: str, code: int) -> None:
        self.close()
        told = "; ".join(line.strip() for line in self._log[-_LOG_LINES:])
        raise BpfError(
            f"{self._source.name} cannot be {what}: {os.strerror(code)}{told and f' ({told})'}"
        )

    def _refused(self, code: int) -> None:
        if code == errno.EEXIST:
            raise FileExistsError(code, "a congestion control of this name is registered")
        raise BpfError(f"{self._source.name} cannot be registered: {os.strerror(code)}")


_PRINT: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


def _print_into(log: list[str]) -> Any:
    """Return a libbpf_print_fn_t that keeps what libbpf has to say of errors."""
    library = ctypes.CDLL(None)

    def keep(level: int, text: bytes, arguments: int) -> int:
        if level > 0:  # LIBBPF_WARN is 0
            return 0
        line = ctypes.create_string_buffer(1 << 16)
        library.vsnprintf(line, len(line), text, ctypes.c_void_p(arguments))
        log.extend(line.value.decode(errors="replace").splitlines())
        return 0

    return _PRINT(keep)


@cache
def _library() -> ctypes.CDLL:
    """Return libbpf; OSError where the machine has none."""
    library = ctypes.CDLL(_LIBRARY, use_errno=True)
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    signatures: dict[str, tuple[Any, ...]] = {
        "libbpf_set_print": (pointer, _PRINT),
        "bpf_object__open_mem": (pointer, text, ctypes.c_size_t, pointer),
        "bpf_object__load": (number, pointer),
        "bpf_object__close": (None, pointer),
        "bpf_object__next_map": (pointer, pointer, pointer),
        "bpf_map__type": (number, pointer),
        "bpf_map__fd": (number, pointer),
        "bpf_map__set_map_flags": (number, pointer, ctypes.c_uint32),
        "bpf_map__attach_struct_ops": (pointer, pointer),
        "bpf_link__fd": (number, pointer),
        "bpf_link_create": (number, number, number, number, pointer),
        "btf__new": (pointer, text, ctypes.c_uint32),
        "btf__find_by_name_kind": (number, pointer, text, ctypes.c_uint32),
        "btf__type_by_id": (pointer, pointer, ctypes.c_uint32),
        "btf__name_by_offset": (text, pointer, ctypes.c_uint32),
        "btf__free": (None, pointer),
    }
    for name, (result, *arguments) in signatures.items():
        function: Callable[..., Any] = getattr(library, name)
        function.restype, function.argtypes = result, arguments  # type: ignore[attr-defined]
    return library


def _missing_capabilities() -> list[str]:
    """Return which capabilities this process lacks in the machine's own user namespace."""
    if _read(Path("/proc/self/uid_map")).split() != ["0", "0", "4294967295"]:
        return list(_NEEDED_CAPABILITIES)
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", _read(Path("/proc/self/status")), re.M)
    held = int(effective[1], 16) if effective else 0
    if held >> _CAP_SYS_ADMIN & 1:
        held |= 1 << _NEEDED_CAPABILITIES["CAP_BPF"] | 1 << _NEEDED_CAPABILITIES["CAP_PERFMON"]
    return [name for name, bit in _NEEDED_CAPABILITIES.items() if not held >> bit & 1]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

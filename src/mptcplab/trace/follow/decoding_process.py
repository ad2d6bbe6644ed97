"""A process that reads and decodes captures ahead of the one that follows them.

A batch goes from there to here through memory that both share, of which its arrays are views.  The
memory is used again when nothing refers to them any more.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import signal
import traceback
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from mptcplab.trace.columns.memory import keep_freed_memory
from mptcplab.trace.decode.segments import Decoder, Segments
from mptcplab.trace.files.batch import Damage, Span
from mptcplab.trace.files.capture import Progress
from mptcplab.trace.files.opening import open_batches
from mptcplab.trace.follow.placing import Placed, Placer
from mptcplab.wire.mptcp import MptcpOption

_SLOTS: Final = 8
_SLOT_BYTES: Final = 16 << 20
"""A batch and the block of the file that it lies in; memory that is not used is not taken."""
_ALIGNMENT: Final = 64

# Columns that are narrower on their way: what their fields of a packet need, -1 included.
_NARROW: Final[dict[str, type[np.integer[Any]]]] = {
    "row": np.uint32,
    "ports": np.uint32,
    "seq": np.uint32,
    "ack": np.uint32,
    "window": np.uint16,
    "payload_bytes": np.uint32,
    "payload_at": np.uint32,
    "payload_captured": np.uint32,
    "mss": np.uint16,
    "ip_id": np.int32,
    "hops": np.uint8,
}
_NARROW_DSS: Final[dict[str, type[np.integer[Any]]]] = {
    "ssn": np.uint32,
    "length": np.uint16,
    "checksum": np.int32,
}


@dataclass(slots=True)
class _Message:
    """A batch on its way: everything but the arrays, which are in a slot."""

    slot: int
    places: list[tuple[int, int]]
    """(offset, bytes) of each array."""
    pickled: bytes
    """(Span, Segments, Placed), the arrays left out."""
    addresses: tuple[Any, ...]
    """New IPv6 addresses."""
    malformed: list[Damage]
    cut_off: int
    unknown_links: Counter[int]
    read: tuple[int, int]
    """Bytes read, and bytes of the file."""


@dataclass(slots=True)
class _End:
    """The last message: what is damaged, and why reading ended early."""

    damage: list[Damage]
    error: Exception | None
    placer: Placer
    """The flows of all of it."""


def _narrowed(segments: Segments) -> Segments:
    """Return segments whose columns take less memory, for their way."""
    dss = {name: getattr(segments.dss, name).astype(kind) for name, kind in _NARROW_DSS.items()}
    columns = {name: getattr(segments, name).astype(kind) for name, kind in _NARROW.items()}
    return replace(segments, dss=replace(segments.dss, **dss), **columns)


def _widened(segments: Segments) -> Segments:
    """Return segments as they were before they were ``_narrowed``."""
    dss = {name: getattr(segments.dss, name).astype(np.int64) for name in _NARROW_DSS}
    columns = {name: getattr(segments, name).astype(np.int64) for name in _NARROW}
    return replace(segments, dss=replace(segments.dss, **dss), **columns)


class _Pickler(pickle.Pickler):
    """Writes options by their constructors: compiled classes have no other way."""

    def reducer_override(self, value: Any) -> Any:
        """Return how an option is made again."""
        if isinstance(value, MptcpOption):
            return type(value), value.fields()
        return NotImplemented


class DecodingProcess:
    """The decoding process, as seen from here."""

    def __init__(
        self,
        paths: list[Path],
        decoder: Decoder,
        placer: Placer,
        damage: list[Damage],
        progress: Progress | None,
    ) -> None:
        """Take what ``decoded`` takes."""
        self._paths = paths
        self._decoder = decoder
        self._placer = placer
        self._damage = damage
        self._progress = progress
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)
        self._given: list[tuple[int, list[weakref.ref[Any]]]] = []
        """Slots whose batches were given out, and what lives while their arrays do."""

    def batches(self) -> Iterator[tuple[Span, Segments, Placed | None]]:
        """Yield what the process decodes."""
        from_it, its_out = os.pipe()
        its_free, to_it = os.pipe()
        with warnings.catch_warnings():
            # The only threads are of libraries that expect this (Python 3.12 counts them).
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            os.close(from_it)
            os.close(to_it)
            _decode(self._paths, self._memory, its_out, its_free)
        os.close(its_out)
        os.close(its_free)
        try:
            with os.fdopen(from_it, "rb", buffering=1 << 20) as messages:
                yield from self._receive(messages, to_it)
        finally:
            os.close(to_it)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)

    def _receive(
        self, messages: IO[bytes], to_it: int
    ) -> Iterator[tuple[Span, Segments, Placed | None]]:
        while True:
            try:
                message = pickle.load(messages)  # noqa: S301  (from our own process)
            except EOFError:
                raise RuntimeError("the process that reads and decodes has died") from None
            if isinstance(message, _End):
                self._damage.extend(message.damage)
                self._placer.table = message.placer.table
                self._placer.copies = message.placer.copies
                if message.error is not None:
                    raise message.error
                return
            span, segments, placed = self._unpack(message)
            yield span, segments, placed
            del segments, placed
            self._release(to_it)

    def _unpack(self, message: _Message) -> tuple[Span, Segments, Placed | None]:
        start = message.slot * _SLOT_BYTES
        # Made from the memory itself, each is what the arrays made of it refer to.
        views = [
            np.frombuffer(self._memory, dtype=np.uint8, count=size, offset=start + at)
            for at, size in message.places
        ]
        if len(self._given) < _SLOTS - 2:
            self._given.append((message.slot, [weakref.ref(view) for view in views]))
        else:  # the caller keeps arrays of many batches
            views = [view.copy() for view in views]
            self._given.append((message.slot, []))
        if message.addresses:
            self._decoder.book.codes(*message.addresses)
        self._decoder.malformed.extend(message.malformed)
        self._decoder.cut_off += message.cut_off
        self._decoder.unknown_links += message.unknown_links
        if self._progress is not None:
            self._progress(*message.read)
        span, segments, placed = pickle.loads(message.pickled, buffers=views)  # noqa: S301
        if placed is not None:
            placed.element = placed.element.astype(np.int64)
        return span, _widened(segments), placed

    def _release(self, to_it: int) -> None:
        """Give back the slots of all batches but the latest, to which the caller may refer."""
        kept = []
        for place, (slot, views) in enumerate(self._given):
            in_use = any(view() is not None for view in views)
            if in_use or place == len(self._given) - 1:
                kept.append((slot, views))
            else:
                with suppress(BrokenPipeError):  # it may have sent everything and ended
                    os.write(to_it, bytes([slot]))
        self._given = kept


def _decode(paths: list[Path], memory: mmap.mmap, out: int, free: int) -> None:
    """Decode, in the process made for it, which ends here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that reads us ends us
    keep_freed_memory()
    status = 0
    try:
        with os.fdopen(out, "wb") as messages:
            _Sender(paths, memory, messages, free).run()
    except BrokenPipeError:
        pass  # nobody reads any more
    except BaseException:
        traceback.print_exc()
        status = 1
    os._exit(status)


class _Sender:
    """Decodes the batches and sends them."""

    def __init__(
        self, paths: list[Path], memory: mmap.mmap, messages: IO[bytes], free: int
    ) -> None:
        self._paths = paths
        self._memory = np.frombuffer(memory, dtype=np.uint8)
        self._messages = messages
        self._free_pipe = free
        self._free = list(range(_SLOTS))
        self._decoder = Decoder()
        self._placer = Placer()
        self._addresses = self._malformed = self._cut_off = 0
        self._unknown_links: Counter[int] = Counter()
        self._read = (0, 1)
        self._needs_data = False

    def run(self) -> None:
        """Send everything, then what is damaged."""
        damage: list[Damage] = []
        error: Exception | None = None
        try:
            for batch in open_batches(self._paths, damage, self._note_progress):
                segments = self._decoder.decode(batch)
                self._send(batch.span(), segments, self._placer.place(segments))
        except BrokenPipeError:
            raise
        except Exception as reason:
            error = reason
        pickle.dump(_End(damage, error, self._placer), self._messages, protocol=5)

    def _note_progress(self, done: int, size: int) -> None:
        self._read = (done, size)

    def _send(self, span: Span, segments: Segments, placed: Placed | None) -> None:
        self._needs_data = self._needs_data or segments.has_checksums
        if not self._needs_data:
            segments = replace(segments, data=np.zeros(0, dtype=np.uint8))
        segments = _narrowed(segments)
        if placed is not None:
            placed.element = placed.element.astype(np.uint32)
        buffers: list[pickle.PickleBuffer] = []
        pickled = io.BytesIO()
        _Pickler(pickled, protocol=5, buffer_callback=self._sorter(buffers)).dump(
            (span, segments, placed)
        )
        if not self._free:
            self._free.extend(os.read(self._free_pipe, _SLOTS))
            if not self._free:
                raise BrokenPipeError
        slot = self._free.pop()  # the one that was used last is in the caches still
        places = []
        at = 0
        for buffer in buffers:
            raw = buffer.raw()
            first = slot * _SLOT_BYTES + at
            self._memory[first : first + raw.nbytes] = np.frombuffer(raw, dtype=np.uint8)
            places.append((at, raw.nbytes))
            at += -(-raw.nbytes // _ALIGNMENT) * _ALIGNMENT
        decoder = self._decoder
        keys = decoder.book.numbered_from(self._addresses)
        message = _Message(
            slot=slot,
            places=places,
            pickled=pickled.getvalue(),
            addresses=keys,
            malformed=decoder.malformed[self._malformed :],
            cut_off=decoder.cut_off - self._cut_off,
            unknown_links=decoder.unknown_links - self._unknown_links,
            read=self._read,
        )
        self._addresses += keys[0].size if keys else 0
        self._malformed, self._cut_off = len(decoder.malformed), decoder.cut_off
        self._unknown_links = decoder.unknown_links.copy()
        pickle.dump(message, self._messages, protocol=5)
        self._messages.flush()

    @staticmethod
    def _sorter(buffers: list[pickle.PickleBuffer]) -> Any:
        """Return what takes the arrays that fit in a slot; others are pickled as they are."""
        room = _SLOT_BYTES

        def take(buffer: pickle.PickleBuffer) -> bool:
            nonlocal room
            size = -(-buffer.raw().nbytes // _ALIGNMENT) * _ALIGNMENT
            if size > room:
                return True
            room -= size
            buffers.append(buffer)
            return False

        return take

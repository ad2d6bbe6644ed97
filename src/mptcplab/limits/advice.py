"""What would change a cause: the value, worked out from what a run knows of its paths and buffers.

A window or buffer has to hold what all usable paths carry in the largest of their round trips
(RFC 8684 section 3.3.4 and Raiciu et al., NSDI 2012, section 3: twice that, where data wait behind
what is missing).  Where the round trips that were measured are longer than that allows for, the
queues of the links count as well.  A buffer that holds as much already is not what to change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any, Final

from mptcplab.limits.causes import Cause, FullLinks, Kind
from mptcplab.limits.evidence import Path, PathUse, Refused, Row
from mptcplab.units import BITS_NS, NANOSECONDS, format_duration, format_rate, format_size

READER_SLOW: Final = "the reader is slow"
READER_STOPPED: Final = "closed, the reader takes nothing"
AUTOTUNING: Final = "autotuning had not got there"
TOO_SMALL: Final = "the buffer is too small"
USED_UP: Final = "all of the buffer is used"
"""Kinds of `Cause.RECEIVE_WINDOW`."""
DATA_ACKS_MISSING: Final = "acknowledged by the subflows, DATA_ACKs missing"
"""A kind of `Cause.SEND_BUFFER` and `Cause.RECEIVE_WINDOW`."""
DROPPED_ABOVE_TCP: Final = "dropped above TCP by the receiver (MPTcpExtNoDSSInWindow)"
"""A kind of `Cause.HEAD_OF_LINE`."""
SLOW_START: Final = "in slow start"
PENALISED: Final = "halved by the scheduler for holding others up"
"""Kinds of `Cause.CONGESTION_WINDOW`."""
ONLY_BACKUPS: Final = "only backups had room"
"""A kind of `Cause.SCHEDULER`."""

_WHOLE: Final = 0.99
_WRITABLE: Final = 1.5
"""A send buffer is filled up only when a third of it is free (Linux's sk_stream_min_wspace)."""
_WELL_ABOVE: Final = 4
"""So many times the send buffer, a receive buffer kept Linux 6.18 from dropping what TCP had
acknowledged, in experiments E and G (docs/report/e.md); where processors are short, not always."""
_USUAL_SHARE: Final = 0.5
"""What of a kernel's receive buffer is window, where no sample tells."""
_LONGER: Final = 1.5
"""Round trips as measured that are so much longer than those of the links wait in queues."""
_WORTH: Final = 1.1
"""What one path alone must carry more than all did, for the others to be called a hindrance."""
_GAIN: Final = 1.2
"""How much more a connection could come to, for a larger buffer to be worth a word: headers and the
start take some of what links carry, whatever the buffers."""
_BY_LOSS: Final = ("reno", "cubic", "cubic-hystart", "cubic-rfc9438", "lia", "olia", "balia")
"""Controls whose windows follow from losses, as Reno's or CUBIC's do at most."""
_HELD: Final = 0.05
"""Of the time: what buffers must have been full, to be what keeps a path from being used."""
_WORKED: Final = 0.1
"""Of the time, what a processor must have worked for its speed to be known."""
_MATHIS: Final = 1.22
"""Mathis et al., "The macroscopic behavior of the TCP congestion avoidance algorithm", 1997: what a
path with random losses carries, in segments a round trip, times the root of the loss."""
_CUBIC: Final = 1.054
"""The same of CUBIC, times the loss over the round trip in seconds, to the power of 3/4 (RFC 9438
section 5.1, equation 6, with its C and beta)."""
_LEAST_RTO_NS: Final = 200_000_000
"""What the retransmission timeout is longer than the round trip, at least (Linux's TCP_RTO_MIN).

As ``MIN_RTO_NS`` of our stack, which this package knows nothing of; a test holds them together."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What is to be said of a cause: a value it has, and what to change.

    ``overrides`` are the same change as keys of the scenario, as ``--set`` takes them.
    """

    value: str = ""
    advice: str = ""
    overrides: tuple[str, ...] = ()


class Given:
    """What a connection was given: paths, buffers, and what of them it has used."""

    def __init__(
        self,
        testbed: str,
        flow: Mapping[str, Any],
        known: Mapping[str, Any],
        paths: tuple[Sequence[Path], Sequence[Path]],
        rows: Mapping[str, Sequence[Row]],
        use: PathUse,
    ) -> None:
        """Take the flow of the scenario, its ``flow_limits``, and the connection's rows.

        ``paths`` are those that carried its data, and all that it had beside backups; ``rows`` are
        those of "sender" and "receiver", and of their subflows, "sent" and "received".
        ``use`` is what links say of the paths.
        """
        self.simulated = testbed == "simulated"
        self.flow = flow
        self.known = known
        self.paths, self._open_paths = paths
        self._rows = rows
        self._use = use
        self.held = 0.0
        """Of the time, what a window or buffer was full, whatever the links did meanwhile."""

    def with_unused_paths(self) -> Given:
        """Return the same, as if all paths that the connection had beside backups were in use."""
        paths = self._open_paths or self.paths
        given = Given(
            "simulated" if self.simulated else "",
            self.flow,
            self.known,
            (paths, paths),
            self._rows,
            self._use,
        )
        given.held = self.held
        return given

    @property
    def autotunes_receive_buffer(self) -> bool:
        """Whether the receive buffer grows by itself."""
        return self.known.get("receive_buffer_bytes") is None

    @property
    def receive_buffer_max_bytes(self) -> int:
        """The most that it may become, in what the tables call its size."""
        most: int = self.known["receive_window_max_bytes"] or self.known["receive_buffer_max_bytes"]
        return most

    @property
    def largest_receive_buffer_bytes(self) -> int:
        """The largest receive buffer that there was, in what the tables call its size."""
        return self._largest("receiver", "receive_buffer_bytes")

    @property
    def largest_window_bytes(self) -> int:
        """The largest receive window that there was, or could have been."""
        if self.known.get("receive_window_max_bytes"):
            return self.largest_receive_buffer_bytes
        return self._largest("received", "receive_window_bytes")

    @property
    def window_share(self) -> float:
        """What of a receive buffer, as the scenario's key has it, is window."""
        share: float | None = self.known.get("window_share")
        if share is not None:
            return share
        size = self._largest("receiver", "receive_buffer_bytes")
        return self.largest_window_bytes / size if size else _USUAL_SHARE

    @property
    def send_buffer_bytes(self) -> int:
        """The largest send buffer that there was."""
        return self._largest("sender", "send_buffer_bytes")

    @property
    def send_share(self) -> float:
        """What of a send buffer holds data; the rest is what a kernel needs to hold them."""
        held = self._largest("sender", "unacked_bytes")
        size = self.send_buffer_bytes
        if self.known.get("window_share") is not None or not size or not held:
            return 1.0
        return min(max(held / size, 0.25), 1.0)

    @property
    def sending_bytes(self) -> float:
        """What of data the send buffer holds, or may come to hold."""
        size: int = self.known["send_buffer_bytes"] or self.known["send_buffer_max_bytes"]
        return size * self.send_share

    @property
    def receiving_bytes(self) -> float:
        """What of data the receive buffer holds, or may come to hold."""
        fixed: int | None = self.known["receive_buffer_bytes"]
        if fixed is None and self.known.get("receive_window_max_bytes"):
            return self.receive_buffer_max_bytes
        return (fixed or self.receive_buffer_max_bytes) * self.window_share

    @cached_property
    def rate_bps(self) -> int | None:
        """What the paths carry together, and processors take; None where neither has an end."""
        bounds = [self._use.together_bps(self.paths), *(bps for _, bps in self._processors)]
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def capacity(self) -> str:
        """What bounds the rate of the connection, as a clause: ``the paths carry 10 Mb/s``."""
        rate_bps = self.rate_bps
        text = "" if rate_bps is None else format_rate(rate_bps)
        for host, bound_bps in self._processors:
            if bound_bps == rate_bps:
                return f"the processor of {host} takes {text}"
        return f"the paths carry {text}"

    @cached_property
    def _processors(self) -> list[tuple[str, int]]:
        """What the processor of each host takes, by what it took for what there was (bit/s).

        Simulated processors take so much for a packet and a byte; of hosts that had little to do,
        and of kernels, whose processors take less for each of many, nothing is known.
        """
        bounds: list[tuple[str, int]] = []
        if not self.simulated:
            return bounds
        for rows, column, host in (
            ("sender", "bytes_acked", "source"), ("receiver", "bytes_received", "destination")
        ):  # fmt: skip
            last = self._rows[rows][-1] if self._rows[rows] else None
            if last is None or not last["cpu_ns"] or not last[column]:
                continue
            if last["cpu_ns"] > _WORKED * (last["time_ns"] - self.flow["start_ns"]):
                bounds.append((self.flow[host], last[column] * BITS_NS // last["cpu_ns"]))
        return bounds

    @property
    def round_trip_ns(self) -> int:
        """The largest round trip of the paths: of their links, or the least that was measured."""
        links_ns = max((path.rtt_ns for path in self.paths), default=0)
        return links_ns or max((min(each) for each in self._round_trips()), default=0)

    def needed(self, single: float = 1.0) -> tuple[int | None, str]:
        """Return what all paths carry in the largest round trip, and how that comes about.

        Of several paths it is twice that, of one path ``single`` times; None where it is not known.
        """
        rate_bps, rtt_ns = self.rate_bps, self.round_trip_ns
        if not rate_bps or not rtt_ns:
            return None, ""
        times = 2.0 if len(self.paths) > 1 else single
        queued = ""
        measured_ns = max((median(each) for each in self._round_trips()), default=0)
        if measured_ns > max(times, _LONGER) * rtt_ns:
            full_ns = max(path.rtt_ns + path.queue_ns for path in self.paths)
            rtt_ns, queued = max(full_ns, round(measured_ns)), " with full queues"
        product = f"{format_rate(rate_bps)} x {format_duration(rtt_ns)}{queued}"
        size_bytes = int(times * rate_bps * rtt_ns / BITS_NS)
        return size_bytes, product if times == 1 else f"{times:g} x {product}"

    def better_alone(self) -> tuple[Path, int] | None:
        """Return the path, with its rate, that alone carries more than all came to; or None."""
        rates = [(path, self._use.together_bps([path])) for path in self.paths]
        known = [(path, rate_bps) for path, rate_bps in rates if rate_bps is not None]
        came_to_bps = self._came_to_bps()
        if len(self.paths) < 2 or not known or came_to_bps is None:
            return None
        best, rate_bps = max(known, key=lambda pair: pair[1])
        return (best, rate_bps) if rate_bps > _WORTH * came_to_bps else None

    def could_gain(self, *, faster_writer: bool = False) -> bool:
        """Whether the paths, with the losses that they had, could carry more than came over them,
        and the application writes and reads as much, or would with a ``faster_writer``.

        True where it is not known.
        """
        came_to_bps = self._came_to_bps()
        if self.rate_bps is None or came_to_bps is None:
            return True
        could_bps = sum(map(self._could_bps, self.paths))
        keys = ("read_rate_bps",) if faster_writer else ("read_rate_bps", "write_rate_bps")
        asked_bps: list[int] = [bps for key in keys if (bps := self.flow.get(key)) is not None]
        return min(self.rate_bps, could_bps, *asked_bps) > _GAIN * came_to_bps

    def is_held_by_loss(self, path: Path) -> bool:
        """Whether a path, with the losses that it had, carries a good deal less than its links."""
        rate_bps = self._use.together_bps([path])
        return self._could_bps(path) * _GAIN < (math.inf if rate_bps is None else rate_bps)

    def _could_bps(self, path: Path) -> float:
        """Return what a path carries with the losses that it had."""
        rate_bps = float(self._use.together_bps([path]) or self.rate_bps or math.inf)
        loss = self._use.loss(path)
        mss_bytes = max((row["mss_bytes"] or 0 for row in self._rows["sent"]), default=0)
        known = self.flow["congestion"] in _BY_LOSS
        if not known or not loss or not mss_bytes or not path.rtt_ns:
            return rate_bps
        subflows = -(-len({row["subflow"] for row in self._rows["sent"]}) // len(self.paths))
        window = _MATHIS / loss**0.5
        if self.flow["congestion"].startswith("cubic"):
            window = max(window, _CUBIC * (path.rtt_ns / NANOSECONDS / loss) ** 0.75)
        segment_ns = path.rtt_ns / window + _timed_out_ns(loss, path.rtt_ns)
        bound_bps: float = subflows * mss_bytes * BITS_NS / segment_ns
        return min(rate_bps, bound_bps)

    def _came_to_bps(self) -> float | None:
        """Return at what rate data were acknowledged; None where that is not known."""
        acked = [(row["time_ns"], row["bytes_acked"]) for row in self._rows["sender"]]
        if not acked or acked[-1][1] is None:
            return None
        return float(acked[-1][1] * BITS_NS / max(acked[-1][0] - self.flow["start_ns"], 1))

    def first_subflow(self) -> Sequence[Row]:
        """Return a row of the subflow that the connection began with, at its sender."""
        return [row for row in self._rows["sent"] if row["subflow"] == 0][:1]

    def _round_trips(self) -> list[list[int]]:
        """Return the round trips that were measured, of each subflow."""
        measured: dict[int, list[int]] = {}
        for row in self._rows["sent"]:
            if row["srtt_ns"]:
                measured.setdefault(row["subflow"], []).append(row["srtt_ns"])
        return list(measured.values())

    def key(self, name: str) -> str:
        """Return a key of the flow, as ``--set`` takes it."""
        return f"flows.{_quoted(self.flow['name'])}.{name}"

    def resent_share(self) -> float | None:
        """Return what of the bytes was sent again; None where nothing was sent."""
        last = {row["subflow"]: row for row in self._rows["sent"]}
        sent = sum(row["bytes_sent"] for row in last.values())
        again = sum(row["bytes_retransmitted"] for row in last.values())
        return again / sent if sent else None

    def refused(self) -> list[Refused]:
        """Return what the full queues of links refused that are shorter than their path's round
        trip, where that is most of what the path lost and without it, the path would carry more.
        """
        found: dict[str, Refused] = {}
        if self.flow["congestion"] not in _BY_LOSS or not self.could_gain():
            return []
        worth_bps = (_GAIN - 1) * (self._came_to_bps() or 0.0)
        for path in self.paths:
            refused = self._use.refused(path) if path.queue_ns < path.rtt_ns else None
            if refused is not None and self._could_bps(path) - refused.carried_bps > worth_bps:
                found[refused.link] = refused
        return list(found.values())

    def short_queues(self) -> list[str]:
        """Return the links whose queues are short for a window of what their paths carry."""
        if self.flow["congestion"] not in _BY_LOSS:
            return []
        links = [self._use.short_queue(path) for path in self.paths]
        return list(dict.fromkeys(link for link in links if link))

    def longer_queues(self, links: Sequence[str]) -> tuple[str, ...]:
        """Return the settings of queues that hold what their paths carry in a round trip."""
        sizes: dict[str, int] = {}
        for path in self.paths:
            for link, _ in path.links:
                size_bytes = (path.rate_bps or 0) * path.rtt_ns // BITS_NS
                sizes[link] = max(size_bytes, sizes.get(link, 0))
        return tuple(f"links.{_quoted(name)}.queue={_written_size(sizes[name])}" for name in links)

    def _largest(self, rows: str, column: str) -> int:
        return max((row[column] or 0 for row in self._rows[rows]), default=0)


def _timed_out_ns(loss: float, rtt_ns: int) -> float:
    """Return how long timeouts take, for each segment that is sent at a rate of losses.

    Padhye et al., "Modeling TCP Throughput: A Simple Model and its Empirical Validation", 1998,
    equation 30 with an ACK for each segment. At a tenth of losses, timeouts are what counts.
    """
    timeouts = min(1.0, 3 * math.sqrt(3 * loss / 8)) * loss * (1 + 32 * loss * loss)
    return timeouts * (rtt_ns + _LEAST_RTO_NS)


def remedy(cause: Cause, kinds: Mapping[Kind, int], given: Given) -> Remedy:
    """Return what is to be said of a cause, whose ``kinds`` took so long each."""
    kind = max(kinds, key=lambda name: kinds[name])
    if not given.known:
        return Remedy()
    if kind == DATA_ACKS_MISSING:
        return Remedy()
    if cause is Cause.RECEIVE_WINDOW:
        return _window(kind, given)
    if cause is Cause.HEAD_OF_LINE:
        return _never_dropped(given) if kind == DROPPED_ABOVE_TCP else _missing(given)
    if cause is Cause.SEND_BUFFER:
        return _send_buffer(given)
    if cause is Cause.CONGESTION_WINDOW:
        return _missing(given) if kind == PENALISED else _congestion(kind, given)
    if cause is Cause.APPLICATION:
        return _application(kind, given)
    if cause is Cause.HANDSHAKE:
        return _handshake(kind, given)
    if cause is Cause.CPU:
        advice = f"a faster processor for {kind}, or larger packets"
        return Remedy("", advice, (f"hosts.{kind}.cpu=none",) if given.simulated else ())
    if cause is Cause.SCHEDULER:
        backup = kind == ONLY_BACKUPS
        return Remedy("", "a subflow that is no backup" if backup else "another scheduler")
    if isinstance(kind, FullLinks):
        return _full(kind, given.with_unused_paths())
    return Remedy()


def _full(kind: FullLinks, given: Given) -> Remedy:
    """What would do where links are full: all that there are, or some, with room on others."""
    advice = "a faster link, or one more"
    others = [path for path in given.paths if path.name in kind.others]
    lossy = [path.name for path in others if given.is_held_by_loss(path)]
    if lossy:
        return Remedy("", f"{advice}, or fewer losses on {' and '.join(lossy)}")
    if not kind.others or not given.could_gain():
        return Remedy("", f"only {advice}")
    settings = _larger_buffers(given) if given.held > _HELD else ()
    if not settings:
        return Remedy("", f"{advice}; {' and '.join(kind.others)} had room")
    needed, formula = given.needed()
    return _enough("", needed or 0, formula, settings, given)


def _larger_buffers(given: Given) -> tuple[str, ...]:
    """Return the settings of buffers that hold less than the paths need."""
    return (*_short_receive_buffer(given), *_short_send_buffer(given))


def _handshake(kind: Kind, given: Given) -> Remedy:
    if kind:  # it is not its length that is at fault
        return Remedy()
    rtt_ns = given.round_trip_ns
    value = f"round trip {format_duration(rtt_ns)}" if rtt_ns else ""
    return Remedy(value, "fewer connections, each for longer")


def _window(kind: Kind, given: Given) -> Remedy:
    if kind in (READER_SLOW, READER_STOPPED):
        rate_bps = given.rate_bps
        advice = "a faster reader"
        if rate_bps is None:
            return Remedy("", advice)
        overrides = (f"{given.key('read_rate')}={_written_rate(rate_bps)}",)
        limited = given.flow.get("read_rate_bps") is not None
        return Remedy(
            "",
            f"{advice}: {given.capacity}",
            overrides if limited else (),
        )
    size = given.largest_window_bytes
    value = format_size(size) if size else ""
    given = given.with_unused_paths()  # a larger window brings them into use
    needed, formula = given.needed()
    if needed is None:
        return Remedy(value, "a larger receive buffer")
    if needed <= size or not given.could_gain():
        return Remedy(value)
    settings = (_receive_setting(given, needed), *_short_send_buffer(given))
    return _enough(value, needed, formula, settings, given)


def _missing(given: Given) -> Remedy:
    """What would do where a window or buffer is full behind missing bytes."""
    window, buffer = given.largest_window_bytes, given.send_buffer_bytes
    sends = 0 < buffer * given.send_share < window
    value = f"send buffer {format_size(buffer)}" if sends else format_size(window) if window else ""
    needed, formula = given.needed()
    if needed is None or not given.could_gain():
        return Remedy(value)
    settings = []
    if needed > window:
        settings.append(_receive_setting(given, needed))
    if needed > (buffer * given.send_share if sends else given.sending_bytes):
        settings.append(_send_setting(given, needed))
    if settings:
        return _enough(value, needed, formula, settings, given)
    alone = given.better_alone()
    if alone is None:
        return Remedy(value)
    return Remedy(value, f"{alone[0].name} alone carries {format_rate(alone[1])}, which is more")


def _never_dropped(given: Given) -> Remedy:
    """What would do where a receiver drops data that TCP has acknowledged (see `note_dropped_data`
    of the Linux testbed): a window that the sender does not come near."""
    enough_bytes = _WELL_ABOVE * given.send_buffer_bytes
    if not enough_bytes or given.largest_receive_buffer_bytes >= enough_bytes:
        return Remedy()
    setting = f"{given.key('receive_buffer')}={_written_size(enough_bytes)}"
    return Remedy("", f"a receive buffer well above the send buffer: {setting}", (setting,))


def _send_buffer(given: Given) -> Remedy:
    size = given.send_buffer_bytes
    given = given.with_unused_paths()  # a larger buffer brings them into use
    needed, formula = given.needed(_WRITABLE)
    value = format_size(size) if size else ""
    if needed is None:
        return Remedy(value, "a larger send buffer")
    if needed <= size * given.send_share or not given.could_gain():
        return Remedy(value)
    settings = (_send_setting(given, needed), *_short_receive_buffer(given))
    return _enough(value, needed, formula, settings, given)


def _enough(value: str, needed: int, formula: str, settings: Sequence[str], given: Given) -> Remedy:
    """Advise buffers that hold ``needed``, and queues for windows of that size."""
    share = given.window_share
    is_part = share <= _WHOLE and any(".receive_buffer=" in setting for setting in settings)
    part = f" (of which {share:.0%} is window)" if is_part else ""
    queues = given.longer_queues(given.short_queues())
    also = f", with a longer queue: {' and '.join(queues)}" if queues else ""
    return Remedy(
        value,
        f"{_size(needed)} would do ({formula}): {' and '.join(settings)}{part}{also}",
        (*settings, *queues),
    )


def _receive_setting(given: Given, needed: float) -> str:
    return f"{given.key('receive_buffer')}={_written_size(needed / given.window_share)}"


def _send_setting(given: Given, needed: float) -> str:
    return f"{given.key('send_buffer')}={_written_size(needed / given.send_share)}"


def _short_send_buffer(given: Given) -> tuple[str, ...]:
    """Return the setting of a send buffer that would be too small as well."""
    needed, _ = given.needed(_WRITABLE)
    if needed is None or given.sending_bytes >= needed:
        return ()
    return (_send_setting(given, needed),)


def _short_receive_buffer(given: Given) -> tuple[str, ...]:
    """Return the setting of a receive buffer that would be too small as well."""
    needed, _ = given.needed()
    if needed is None or given.receiving_bytes >= needed:
        return ()
    return (_receive_setting(given, needed),)


def _congestion(kind: Kind, given: Given) -> Remedy:
    share, rtt_ns = given.resent_share(), given.round_trip_ns
    again = f"{share:.2%} sent again" if share else ""
    if kind == SLOW_START and rtt_ns:
        advice = f"windows double in each round trip of {format_duration(rtt_ns)}: longer transfers"
        return Remedy(again, advice)
    return _losses(again, given) if again else Remedy()


def _losses(value: str, given: Given) -> Remedy:
    """What would do where windows are small because of losses, of what was sent again."""
    refused = given.refused()
    if not refused:
        return Remedy(value, "fewer losses, or a congestion control that minds them less")
    texts = [f"{each.link}'s full queue refused {each.packets} of {each.given}" for each in refused]
    names = [each.link for each in refused]
    settings = given.longer_queues(names)
    advice = f"a longer queue, such as what is sent in a round trip: {' and '.join(settings)}"
    return Remedy(", ".join([value, *texts]), advice, settings)


def _application(kind: Kind, given: Given) -> Remedy:
    if kind:
        return Remedy()
    rate_bps = given.rate_bps
    if rate_bps is None:
        return Remedy("", "write faster")
    if not given.could_gain(faster_writer=True):
        return Remedy()
    limited = given.flow.get("write_rate_bps") is not None
    return Remedy(
        "",
        f"write faster: {given.capacity}",
        (f"{given.key('write_rate')}={_written_rate(rate_bps)}",) if limited else (),
    )


def _quoted(name: str) -> str:
    """Return a name as a part of a key of ``--set``."""
    return f'"{name}"' if "." in name else name


def _size(size_bytes: float) -> str:
    """Return a size in three digits: ``10.8 MB``."""
    return format_size(size_bytes, 3)


def _written_size(size_bytes: float) -> str:
    """Return the same as scenario files have it: ``10.8MB``."""
    return _size(size_bytes).replace(" ", "")


def _written_rate(rate_bps: float) -> str:
    """Return a rate as scenario files have it: ``100Mb/s``."""
    return format_rate(rate_bps, 6).replace(" ", "")

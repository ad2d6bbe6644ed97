"""What happened on a connection, in sentences, as the debug log of the 2012 kernel had it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final

from mptcplab.trace.connections.model import BY_TOKEN, Connection, Event, Subflow
from mptcplab.trace.findings.idle_subflows import Silence, find_silences
from mptcplab.trace.follow.read_pass import Reading
from mptcplab.units import format_duration, format_size
from mptcplab.wire.ip import format_address
from mptcplab.wire.keys import add_addr_hmac
from mptcplab.wire.mptcp import (
    AddAddr,
    MpFail,
    MpFastclose,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.text import format_endpoint, format_reset_reason

START = "connection starts"
ESTABLISHED = "first subflow"
JOIN = "join"
NEW_ADDRESS = "new interface"
RETURNED = "interface returns"
REFUSED = "join refused"
LOST = "subflow lost"
IDLE = "subflow idle"
RESUMED = "subflow returns"
USED_AGAIN = "subflow used again"
CLOSING = "data ends"
CLOSED = "connection closes"
SUBFLOW_CLOSED = "subflow closed"
FALLBACK = "fallback"
ADDRESS = "address"
WRONG_CHECKSUM = "wrong checksum"
WRONG_KEY = "wrong key"
UNUSED_ADDRESS = "address not used"
TRANSLATED = "address translated"
BACKUP_USED = "backup used"
STRIPPED = "option removed"

STAGES = (START, ESTABLISHED, NEW_ADDRESS, LOST, RESUMED, RETURNED, CLOSED)
"""Events that divide a connection's life into stages, as Table 4 of the report does."""

_IGNORED_NS: Final = 1_000_000_000
"""An address that was announced for this long could have been used."""
_QUIET_NS: Final = 1_000_000_000
"""An address whose subflow has carried nothing for this long counts as gone."""


def tell(connection: Connection, reading: Reading) -> list[Event]:
    """Return the connection's events, in order of time."""
    silences = [silence for side in (0, 1) for silence in find_silences(connection, side)]
    teller = _Teller(connection, reading, silences)
    teller.start()
    for subflow in connection.subflows:
        teller.joined(subflow)
        teller.closed(subflow)
        teller.corrupted(subflow)
    for silence in silences:
        teller.silent(silence)
    for number, time_ns, half, option in connection.options:
        teller.said(number, time_ns, half, option)
    teller.addresses()
    teller.backups()
    teller.end()
    return sorted(
        teller.events, key=lambda event: (event.time_ns, event.kind != START, event.number)
    )


class _Teller:
    def __init__(
        self, connection: Connection, reading: Reading, silences: Iterable[Silence]
    ) -> None:
        self.connection = connection
        self.reading = reading
        self.events: list[Event] = []
        self.of_flow = {subflow.flow: subflow for subflow in connection.subflows}
        self._addresses: set[str] = set()
        self._used: dict[str, _Used] = {}
        self._silences: dict[str, list[Silence]] = {}
        """By address, in order of time: when a subflow that it opened was lost."""
        for silence in sorted(silences, key=attrgetter("start_ns")):
            if silence.lost:
                self._silences.setdefault(silence.subflow.source, []).append(silence)
        self._aborted = False
        self._explained = {
            number for number, _, _, option in connection.options if isinstance(option, MpTcpRst)
        }
        """Packets whose reset an MP_TCPRST explains."""

    def add(
        self,
        time_ns: int,
        number: int,
        kind: str,
        text: str,
        subflow: Subflow | None = None,
        side: int | None = None,
    ) -> None:
        self.events.append(
            Event(time_ns, number, kind, text, None if subflow is None else subflow.number, side)
        )

    def start(self) -> None:
        """The first packet, the first subflow, fallback."""
        connection = self.connection
        first = connection.subflows[0]
        source, destination = first.ends
        version = "" if connection.version is None else f", version {connection.version}"
        if connection.saw_syn:
            text = f"{source} opens an MPTCP connection to {destination}{version}"
        elif first.token is not None:
            text = f"{source} asks {destination} to join a connection whose start was not captured"
            text += version
        else:
            text = f"the capture meets the connection of {source} and {destination} under way"
            text += version
        tokens = [f"0x{token:08x}" for token in connection.tokens if token is not None]
        if tokens:
            text += f", token{'s' if len(tokens) > 1 else ''} {' and '.join(tokens)}"
        self.add(first.start_ns, first.first_number, START, text, first)
        established = first.halves[0].seen.established_ns
        if established and connection.saw_syn and connection.saw_syn_ack:
            text = f"subflow 0 is established after {format_duration(first.handshake_ns, 3)}"
            self.add(established, 0, ESTABLISHED, text, first)
        elif (
            not first.halves[1].seen.syn_ns
            and not first.bytes
            and (connection.saw_syn or first.token is not None)
        ):
            self.add(first.end_ns, 0, REFUSED, _unanswered("the SYN", first), first)
        for number, time_ns, side in connection.other_keys:
            text = f"{first.ends[side]} states another MP_CAPABLE key than before: the first counts"
            self.add(time_ns, number, "key changed", text, first, side)
        if connection.fallback_reason:
            self.add(
                connection.fallback_ns,
                connection.fallback_number,
                FALLBACK,
                f"the connection goes on as plain TCP: {connection.fallback_reason}",
                first,
            )

    def joined(self, subflow: Subflow) -> None:
        """A further subflow: tried, established, refused."""
        address = subflow.source
        fresh = address not in self._addresses
        used = self._used.setdefault(address, _Used())
        gone = used.last_over(subflow.start_ns)
        refused = _refused(subflow)
        if refused is None:
            used.add(subflow)
            self._addresses.update((address, subflow.destination))
        if subflow.number == 0:
            return
        source, destination = subflow.ends
        if refused is not None:
            text = f"{source} tries to join to {destination}: {refused}"
            self.add(subflow.start_ns, subflow.first_number, REFUSED, text, subflow)
            return
        how = ""
        if subflow.joined_by != "token":
            missing = "its handshake" if subflow.token is None else "the connection's start"
            how = f" (inferred: {missing} was not captured)"
        established = subflow.halves[0].seen.established_ns
        when = established or subflow.start_ns
        text = f"subflow {subflow.number} joins: {source} to {destination}{how}"
        if subflow.opened_by:
            text += ", opened by the side that was asked for the connection"
        if subflow.backup[0]:
            text += ", as backup"
        if subflow.hmac_ok is False:
            text += ", WITH A WRONG HMAC"
        kind = NEW_ADDRESS if fresh else JOIN
        if subflow.handshake_ns:
            text += f" (handshake {format_duration(subflow.handshake_ns, 3)})"
        absence = self._absence(address, gone, when)
        if absence:
            kind = RETURNED
            text += f"; {address} returns, {absence}{self._share_after(subflow, when)}"
        self.add(when, subflow.first_number, kind, text, subflow, subflow.opened_by)

    def _absence(self, address: str, gone: int | None, when: int) -> str:
        """Return how long an address has carried nothing, as text, "" where it was not away.

        ``gone`` is its latest subflow that was over by then.  A silent one may carry data again
        once its link is back.
        """
        if gone is not None:
            halves = self.connection.subflows[gone].halves
            last_ns = max(half.seen.last_data_ns or half.seen.last_ns for half in halves)
        else:
            silences = self._silences.get(address, [])
            place = bisect_right(silences, when - _QUIET_NS, key=attrgetter("start_ns"))
            if not place or silences[place - 1].end_ns < when:
                return ""
            gone, last_ns = silences[place - 1].subflow.number, silences[place - 1].start_ns
        absent = format_duration(max(0, when - last_ns), 3)
        return f"{absent} after its subflow {gone} last carried data"

    def _share_after(self, subflow: Subflow, start_ns: int) -> str:
        """Return what share of the busier side's data a subflow carries from ``start_ns`` on."""
        connection = self.connection
        side, end_ns = connection.busier_side, connection.end_ns + 1
        mine, total = (
            sum(carrier.half(side).total("new_bytes", start_ns, end_ns) for carrier in subflows)
            for subflows in ([subflow], connection.subflows)
        )
        return f", and carries {mine / total:.0%} of the data from then on" if total else ""

    def silent(self, silence: Silence) -> None:
        """A subflow stopped carrying data while others went on."""
        subflow = silence.subflow
        lost = silence.lost
        link = " to ".join(subflow.ends)
        text = f"subflow {subflow.number} ({link}) stops carrying data"
        if silence.unacked_bytes:
            text += f" with {format_size(silence.unacked_bytes, 3)} unacknowledged"
        elif silence.reset_ns:
            after = format_duration(silence.reset_ns - silence.start_ns, 3)
            text += f" and is reset {after} later"
        elif lost:
            text += " with data stuck in it"
        if lost:
            text += f"; the connection pauses for {format_duration(silence.stall_ns, 3)}"
        else:
            text += ", all of it acknowledged: the sender uses the other subflows"
        self.add(
            silence.start_ns, silence.last_number, LOST if lost else IDLE, text, subflow,
            silence.side,
        )  # fmt: skip
        if silence.resumed:
            text = (
                f"subflow {subflow.number} carries data again after "
                f"{format_duration(silence.end_ns - silence.start_ns, 3)}"
            )
            if silence.retransmissions:
                text += f" and {silence.retransmissions} retransmissions in vain"
            kind = RESUMED if lost else USED_AGAIN
            text += self._share_after(subflow, silence.end_ns)
            self.add(silence.end_ns, 0, kind, text, subflow, silence.side)

    def closed(self, subflow: Subflow) -> None:
        """FIN and RST of a subflow."""
        for side, half in enumerate(subflow.halves):
            who = subflow.ends[side]
            if half.seen.rst_ns and half.seen.rst_number not in self._explained:
                text = f"{who} resets subflow {subflow.number}"
                self._gone(half.seen.rst_ns, half.seen.rst_number, text, subflow, side)
            if half.seen.fin_ns:
                text = f"{who} closes its direction of subflow {subflow.number} (FIN)"
                self._gone(half.seen.fin_ns, half.seen.fin_number, text, subflow, side)

    def addresses(self) -> None:
        """What became of announced addresses: translated on the way, or never used."""
        announced: dict[tuple[int, int], tuple[int, int, AddAddr]] = {}
        for number, time_ns, half, option in self.connection.options:
            subflow = self.of_flow[half >> 1]
            if isinstance(option, AddAddr) and not option.echo:
                side = (half & 1) ^ subflow.opened_by
                announced.setdefault((side, option.address_id), (time_ns, number, option))
        for (side, address_id), (time_ns, number, option) in announced.items():
            address = format_address(option.address)
            place = f"{address} (address ID {address_id})"
            named = [
                subflow
                for subflow in self.connection.subflows
                if subflow.address_ids[side ^ subflow.opened_by] == address_id
            ]
            other = next((one for one in named if one.address(side) != address), None)
            if other is not None and (":" in address) == (":" in other.address(side)):
                text = (
                    f"what was announced as {place} is seen as {other.address(side)} on subflow "
                    f"{other.number}: addresses are translated on the way (NAT)"
                )
                when = max(time_ns, other.start_ns)
                self.add(when, other.first_number, TRANSLATED, text, other, side)
            met = named or any(
                address in (subflow.source, subflow.destination)
                for subflow in self.connection.subflows
            )
            waited = self.connection.end_ns - time_ns
            if not met and waited >= _IGNORED_NS:
                text = (
                    f"no subflow to {place} was seen in the {format_duration(waited, 3)} after it "
                    "was announced"
                )
                self.add(self.connection.end_ns, number, UNUSED_ADDRESS, text, None, side)

    def backups(self) -> None:
        """When data moved to subflows that are backups."""
        asked = {
            (half >> 1): time_ns
            for _, time_ns, half, option in self.connection.options
            if isinstance(option, MpPrio) and option.backup and option.address_id is None
        }
        since = {
            subflow.number: subflow.start_ns if any(subflow.backup) else asked[subflow.flow]
            for subflow in self.connection.subflows
            if any(subflow.backup) or subflow.flow in asked
        }
        for side in (0, 1):
            for number, start_ns in since.items():
                self._backup(self.connection.subflows[number], side, start_ns, since)

    def _backup(self, subflow: Subflow, side: int, start_ns: int, backups: Iterable[int]) -> None:
        rows = subflow.half(side).samples
        rows = rows[(rows["new_bytes"] > 0) & (rows["time_ns"] >= start_ns)]
        if rows.size == 0:
            return
        first_ns = int(rows["first_ns"][0])
        last: tuple[int, int] | None = None
        for other in self.connection.subflows:
            if other.number in backups:
                continue
            times = other.half(side).samples
            times = times["time_ns"][(times["new_bytes"] > 0) & (times["time_ns"] < first_ns)]
            if times.size and (last is None or int(times[-1]) > last[0]):
                last = int(times[-1]), other.number
        text = f"data moves to backup subflow {subflow.number} ({' to '.join(subflow.ends)})"
        if last is not None:
            ago = format_duration(first_ns - last[0], 3)
            text += f", {ago} after regular subflow {last[1]} last carried any"
        self.add(first_ns, 0, BACKUP_USED, text, subflow, side)

    def corrupted(self, subflow: Subflow) -> None:
        """Mappings whose checksums are wrong."""
        for side, half in enumerate(subflow.halves):
            for time_ns, number in half.checksums.wrong_at if half.checksums else ():
                text = f"data of {subflow.ends[side]} on subflow {subflow.number} do not fit their"
                text += " DSS checksum"
                self.add(time_ns, number, WRONG_CHECKSUM, text, subflow, side ^ subflow.opened_by)

    def _gone(self, time_ns: int, number: int, text: str, subflow: Subflow, side: int) -> None:
        self.add(time_ns, number, SUBFLOW_CLOSED, text, subflow, side ^ subflow.opened_by)

    def said(self, number: int, time_ns: int, half: int, option: MptcpOption) -> None:
        """An option other than MP_CAPABLE, MP_JOIN and DSS."""
        subflow = self.of_flow[half >> 1]
        side = (half & 1) ^ subflow.opened_by
        who = subflow.ends[half & 1]
        match option:
            case AddAddr():
                text = self._address(who, side, option)
                self.add(time_ns, number, ADDRESS, text, subflow, side)
            case RemoveAddr():
                ids = ", ".join(str(address_id) for address_id in option.address_ids)
                text = f"{who} withdraws address ID {ids}"
                self.add(time_ns, number, "address removed", text, subflow, side)
            case MpPrio():
                what = "a backup" if option.backup else "a regular subflow"
                which = f"subflow {subflow.number}"
                if option.address_id is not None:
                    which = f"address ID {option.address_id}"
                text = f"{who} asks that {which} be {what}"
                self.add(time_ns, number, "priority", text, subflow, side)
            case MpFail():
                text = f"{who} reports a wrong checksum at data sequence number {option.dsn}"
                self.add(time_ns, number, "checksum failure", text, subflow, side)
            case MpFastclose():
                key = self.connection.keys[side ^ 1]
                proof = "" if key is None else " with the right key"
                text = f"{who} aborts the connection (MP_FASTCLOSE{proof})"
                if key is not None and key != option.receiver_key:
                    text = f"{who} asks to abort the connection (MP_FASTCLOSE): the key is wrong"
                    self.add(time_ns, number, WRONG_KEY, text, subflow, side)
                elif not self._aborted:
                    self._aborted = True
                    self.add(time_ns, number, CLOSED, text, subflow, side)
            case MpTcpRst():
                again = ", a retry may help" if option.transient else ""
                reason = format_reset_reason(option.reason)
                text = f"{who} resets subflow {subflow.number}: {reason}{again}"
                self.add(time_ns, number, SUBFLOW_CLOSED, text, subflow, side)

    def _address(self, who: str, side: int, option: AddAddr) -> str:
        address = format_address(option.address)
        place = address if option.port is None else format_endpoint(address, option.port)
        if option.echo:
            return f"{who} confirms address ID {option.address_id}, {place}"
        text = f"{who} announces {place} as address ID {option.address_id}"
        mine, theirs = self.connection.keys[side], self.connection.keys[side ^ 1]
        if option.hmac is not None and mine is not None and theirs is not None:
            right = add_addr_hmac(mine, theirs, option.address_id, option.address, option.port)
            text += "" if right == option.hmac else ", WITH A WRONG HMAC"
        return text

    def end(self) -> None:
        """DATA_FINs and the last packet."""
        connection = self.connection
        closers: dict[int, tuple[int, int, Subflow]] = {}
        fins = self.reading.mappings.data_fins
        for subflow in connection.subflows:
            for direction in (0, 1):
                fin = fins.get(2 * subflow.flow + direction)
                side = direction ^ subflow.opened_by
                if fin and (side not in closers or fin[0] < closers[side][0]):
                    closers[side] = (*fin, subflow)
        for side, (time_ns, number, subflow) in closers.items():
            text = f"{connection.subflows[0].end(side)} has sent all its data (DATA_FIN)"
            self.add(time_ns, number, CLOSING, text, subflow, side)
        aborted = self._aborted
        ended = len(closers) == 2 or connection.fallback
        over = [_over_ns(subflow) for subflow in connection.subflows]
        if not aborted and ended and all(over):
            text = "the connection closes"
            self.add(max(over), 0, CLOSED, text)
        elif not aborted and all(over) and len(over) > 0:
            self.add(max(over), 0, CLOSED, "the last subflow is gone")


def _over_ns(subflow: Subflow) -> int:
    """Return when a subflow was over (both FINs, or a RST); 0 where it was not."""
    resets = [half.seen.rst_ns for half in subflow.halves if half.seen.rst_ns]
    fins = [half.seen.fin_ns for half in subflow.halves]
    if resets:
        return min(resets)
    if all(fins):
        return max(fins)
    asked = subflow.halves[0].seen.syn_ns and not subflow.halves[1].seen.syn_ns
    return subflow.end_ns if asked and not subflow.bytes else 0


class _Used:
    """The subflows that one address has opened, by when each was over or went quiet."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int]] = []
        self._last: int | None = None

    def add(self, subflow: Subflow) -> None:
        over = _over_ns(subflow)
        quiet = subflow.halves[0].seen.last_data_ns or subflow.halves[1].seen.last_data_ns
        times = [time for time in (over, quiet and quiet + _QUIET_NS) if time]
        if times:
            heappush(self._waiting, (min(times), subflow.number))

    def last_over(self, by_ns: int) -> int | None:
        """Return the number of the latest subflow that was over by then, None for none."""
        while self._waiting and self._waiting[0][0] <= by_ns:
            number = heappop(self._waiting)[1]
            self._last = number if self._last is None else max(self._last, number)
        return self._last


def _refused(subflow: Subflow) -> str | None:
    """Return why a subflow that was asked for never came up, None where it did or may have."""
    asked, answer = (half.seen for half in subflow.halves)
    if subflow.number == 0 or subflow.bytes or not (asked.syn_ns or subflow.token is not None):
        return None
    reset = ", and the subflow was reset" if asked.rst_ns or answer.rst_ns else ""
    if subflow.token is None and asked.syn_ns:
        return (
            f"its SYN carries no MP_JOIN here, so it was removed on the way, or is no join{reset}"
        )
    if not answer.syn_ns:
        return None if asked.established_ns else _unanswered("the SYN", subflow)
    if subflow.nonces[1] is None and subflow.hmacs[1] is None and subflow.joined_by == BY_TOKEN:
        if subflow.address_ids[1] is not None:
            return None  # cut off by the snap length
        return (
            "the SYN/ACK carries no MP_JOIN: it was removed on the way, or "
            f"{subflow.ends[1]} does not speak MPTCP{reset}"
        )
    if asked.established_ns:
        return None
    late = format_duration(answer.syn_ns - asked.syn_ns, 3) if asked.syn_ns else ""
    if asked.rst_ns:
        return f"never accepted: the SYN/ACK came{late and f' {late} later'} and was reset"
    return "the third packet was not seen"


def _unanswered(what: str, subflow: Subflow) -> str:
    if subflow.halves[1].seen.rst_ns:
        return f"{what} was answered by a reset"
    again = subflow.halves[0].packets
    return f"{what} was not answered" + (f" ({again} packets)" if again > 1 else "")


def stage_events(connection: Connection) -> list[Event]:
    """Return the events that mark the stages of the connection's life."""
    return [event for event in connection.events if event.kind in STAGES]

"""One script, played in virtual time."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from random import Random

from bench.packetdrill.reasons import Mismatch, Reason, Stopped
from bench.packetdrill.script import Call, Command, Event, Packet, Script
from bench.packetdrill.sockets import Sockets, expected_value
from bench.packetdrill.values import LOCAL, REMOTE, Values

from mptcplab.stack import Stack, StackConfig
from mptcplab.stack.path_managers.endpoints import Endpoint, EndpointFlag, Endpoints, Limits
from mptcplab.stack.testing import config
from mptcplab.wire.ip import parse_address
from mptcplab.wire.packet import decode_packet, encode_packet, split_train
from mptcplab.wire.segment import ACK, Segment, format_segment

SECOND_NS = 1_000_000_000
START_NS = 1_000 * SECOND_NS
INITIAL_WINDOW_BYTES = 65_536
"""Linux's first window has at most 16 bits (tcp_select_initial_window)."""
LARGEST_WINDOW_BYTES = 15_728_640
"""tcp_rmem of packetdrill's defaults.sh, from which the window scale follows."""
INITIAL_ADDRESS_ID = 200
"""Of no meaning on the wire: the initial address has identifier 0 there."""


def packetdrill_config() -> StackConfig:
    """Return what packetdrill's scripts expect of a Linux host."""
    return replace(
        config(),
        receive_buffer_bytes=INITIAL_WINDOW_BYTES,
        receive_buffer_max_bytes=LARGEST_WINDOW_BYTES,
    )


@dataclass(slots=True)
class Outcome:
    """How a script went."""

    failure: str = ""
    """Empty if it passed."""
    reasons: list[Reason] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.failure:
            return "fail"
        return "RFC" if self.reasons else "pass"


@dataclass(slots=True)
class _Blocked:
    """A call that has not returned."""

    call: Call
    line: int
    begun_ns: int
    latest_ns: int


class Player:
    """Plays one script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.stack = Stack(packetdrill_config(), Random(1))
        self.stack.add_address(LOCAL, INITIAL_ADDRESS_ID)
        self.sockets = Sockets(self.stack, packetdrill_config())
        self.values = Values()
        self.now_ns = START_NS
        self.seen: deque[tuple[int, Segment]] = deque()
        """Packets that left and that no event was compared with."""
        self.blocked: list[_Blocked] = []
        self.last_sent: dict[tuple[bytes, bytes], Segment] = {}
        """What left last, by its addresses."""
        self.repeats: list[int] = []
        """When the packet that is expected now was expected before, time after time."""
        self.expected: Packet | None = None
        self.endpoints: list[Endpoint] = []
        self.limits = Limits()
        self._use_endpoints()

    def play(self) -> Outcome:
        """Play it to its end, or to the first thing that is not as it should be."""
        last_ns = START_NS
        line = 0
        try:
            following = [*self.script.events[1:], None]
            for event, after in zip(self.script.events, following, strict=True):
                line = event.line
                base_ns = last_ns if event.is_relative else START_NS
                last_ns = self._play(event, after, base_ns)
            while self.blocked:
                line = self.blocked[0].line
                self._advance(self.blocked[0].latest_ns)
                self._check_blocked()
        except Mismatch as mismatch:
            return Outcome(f"line {line}: {mismatch}", self.values.reasons)
        except Stopped as stopped:
            self.values.note(stopped.reason)
        return Outcome("", self.values.reasons)

    def _play(self, event: Event, after: Event | None, base_ns: int) -> int:
        """Play an event; return the time that the next one counts from."""
        start_ns, end_ns = base_ns + event.start_ns, base_ns + event.end_ns
        body = event.body
        if isinstance(body, Packet):
            if body.inbound:
                self._advance(start_ns)
                self._inject(body)
                return self.now_ns
            return self._expect(body, after, start_ns, end_ns)
        self._advance(start_ns)
        if isinstance(body, Command):
            self._run(body.text)
        else:
            self._call(body, event, end_ns)
        return self.now_ns

    # Time.

    def _advance(self, until_ns: int) -> None:
        """Let time pass, and the stack do what is due."""
        self._flush()
        while True:
            due = [self.stack.poll_timeout(), self.sockets.next_deadline_ns()]
            next_ns = min((time for time in due if time is not None), default=until_ns)
            next_ns = min([next_ns, until_ns, *(one.latest_ns for one in self.blocked)])
            self.now_ns = max(self.now_ns, next_ns)
            self.stack.handle_timeout(self.now_ns)
            self.sockets.handle_timeout(self.now_ns)
            self._flush()
            if self.now_ns >= until_ns:
                return

    def _flush(self) -> None:
        """Take what the stack has to say, and try again what is blocked."""
        while (train := self.stack.poll_transmit(self.now_ns)) is not None:
            for packet in split_train(train):
                if _is_routed(packet.dst):
                    self.seen.append((self.now_ns, decode_packet(encode_packet(packet))))
        self.sockets.take_events()
        self._check_blocked()

    def _check_blocked(self) -> None:
        for one in list(self.blocked):
            if self._try(one):
                self.blocked.remove(one)
                self._flush()

    # Events.

    def _inject(self, packet: Packet) -> None:
        if any(option.name == "FO" for option in packet.options) or (
            "S" in packet.flags and packet.payload_bytes
        ):
            raise Stopped(Reason.FAST_OPEN)
        segment = self.values.inject(packet)
        arriving = decode_packet(encode_packet(segment))
        arriving.payload = segment.payload
        self.stack.receive(arriving, self.now_ns)
        self._flush()

    def _expect(self, packet: Packet, after: Event | None, start_ns: int, end_ns: int) -> int:
        """Wait for a packet and compare it; return when it left."""
        tolerance_ns = self.script.tolerance_ns
        said = replace(packet, source="", destination="")
        self.repeats = self.repeats if said == self.expected else []
        self.expected = said
        if not self._wait(end_ns + tolerance_ns) and self.repeats:
            timer_ns = self._timer_ns()
            if self._wait(timer_ns + tolerance_ns):
                self.values.note(Reason.RETRANSMISSION_TIMER)
                end_ns = max(end_ns, timer_ns)
        if not self.seen:
            raise Mismatch(f"no packet came {self._why()}")
        left_ns, live = self.seen[0]
        if self._is_piggybacked(packet, after, live):
            return left_ns
        self.seen.popleft()
        update = self._is_window_update(live)
        self.last_sent[live.src, live.dst] = live
        try:
            self.values.compare(packet, live)
        except Mismatch as mismatch:
            if update:
                self.values.note(Reason.WINDOW_UPDATE)
                return self._expect(packet, after, start_ns, end_ns)
            raise Mismatch(f"{mismatch}; the packet was {format_segment(live)}") from None
        if left_ns < start_ns - tolerance_ns or left_ns > end_ns + tolerance_ns:
            late_ns = left_ns - (end_ns if left_ns > end_ns else start_ns)
            raise Mismatch(f"the packet came {late_ns / 1_000_000:+.1f} ms from its time")
        self.repeats.append(left_ns)
        return left_ns

    def _wait(self, latest_ns: int) -> bool:
        """Wait for a packet until then; say whether there is one."""
        while not self.seen and self.now_ns < latest_ns:
            due = [self.stack.poll_timeout(), self.sockets.next_deadline_ns(), latest_ns]
            self._advance(min(time for time in due if time is not None))
        return bool(self.seen)

    def _timer_ns(self) -> int:
        """Return when what was expected before is to be repeated, by RFC 6298."""
        last_ns = self.repeats[-1]
        if len(self.repeats) > 1:
            return last_ns + 2 * (last_ns - self.repeats[-2])
        rtos = [
            int(subflow.tcp.sender.rtt.rto_ns)
            for connection in self.stack.connections
            for subflow in connection.subflows
        ]
        return last_ns + max(rtos, default=0)

    def _is_piggybacked(self, packet: Packet, after: Event | None, live: Segment) -> bool:
        """Say whether the ACK that is expected travels on the packet that is expected next."""
        following = None if after is None else after.body
        if (
            packet.flags != "."
            or packet.payload_bytes
            or not isinstance(following, Packet)
            or following.inbound
            or following.flags == "."
            or following.ack != packet.ack
            or following.options != packet.options
        ):
            return False
        if live.flags & ~ACK:
            self.values.note(Reason.PIGGYBACK)
            return True
        return False

    def _is_window_update(self, live: Segment) -> bool:
        """Say whether a packet tells nothing to its subflow but that the window has grown."""
        last = self.last_sent.get((live.src, live.dst))
        return (
            last is not None
            and live.flags == ACK
            and not live.payload_bytes
            and live.ack == last.ack
            and live.window > last.window
        )

    def _why(self) -> str:
        states = [
            f"{subflow.tcp.state.value}"
            for connection in self.stack.connections
            for subflow in connection.subflows
        ]
        return f"(subflows: {', '.join(states) or 'none'})"

    def _call(self, call: Call, event: Event, end_ns: int) -> None:
        latest_ns = end_ns + self.script.tolerance_ns
        one = _Blocked(call, event.line, self.now_ns, latest_ns)
        if self._try(one):
            self._flush()
            return
        self.blocked.append(one)
        while not event.is_blocking and one in self.blocked:
            self._advance(min(latest_ns, self.stack.poll_timeout() or latest_ns))

    def _try(self, one: _Blocked) -> bool:
        """Ask for the result of a call; say whether it has returned."""
        call = one.call
        result = self.sockets.call(call, self.now_ns, one.begun_ns)
        if result is None:
            if self.now_ns >= one.latest_ns:
                raise Mismatch(f"{call.name}() does not return")
            return False
        if self._waits_for_join(call, result.value):
            self.values.note(Reason.BREAK_BEFORE_MAKE)
            return True
        if result.value != call.result:
            raise Mismatch(
                f"{call.name}() returned {result.value} {result.error}, expected {call.result} "
                f"{call.error}"
            )
        if call.error and result.error != call.error:
            raise Mismatch(f"{call.name}() failed with {result.error}, expected {call.error}")
        said = expected_value(call)
        if said and said != result.said:
            raise Mismatch(f"{call.name}() said {result.said}, expected {said}")
        return True

    def _waits_for_join(self, call: Call, value: int) -> bool:
        """Say whether a write went to a connection that has no subflow just now."""
        if call.name not in ("write", "send") or call.result != -1 or value < 0:
            return False
        connection = self.sockets.by_number[int(call.arguments[0])].connection
        return connection is not None and not connection.subflows

    # Commands.

    def _run(self, text: str) -> None:
        """Do what a command of the shell does to the host, as far as it concerns our stack."""
        settings = self.sockets.config
        for line in text.splitlines():
            sysctl = re.search(r"([\w./]+)=(\S+)$", line) if "sysctl" in line else None
            if sysctl is not None:
                name = sysctl[1].replace("/", ".")
                if name == "net.mptcp.add_addr_timeout":
                    settings.add_addr_timeout_ns = int(sysctl[2]) * SECOND_NS
                elif name == "net.mptcp.close_timeout":
                    settings.close_timeout_ns = int(sysctl[2]) * SECOND_NS
                elif name == "net.ipv4.tcp_syn_retries":
                    settings.syn_retries = int(sysctl[2])
            elif "client.sh" in line or "server.sh" in line or "multi-ep.sh" in line:
                self._prepare(line)
            elif "endpoint flush" in line:
                self.endpoints = []
            elif "endpoint add" in line:
                match = re.search(r"add (\S+) id (\d+) (\w+)", line)
                assert match is not None
                flag = EndpointFlag[match[3].upper()]
                self.endpoints.append(Endpoint(int(match[2]), parse_address(match[1]), flag))
        self._use_endpoints()

    def _prepare(self, line: str) -> None:
        """Do what the scripts' own helpers do: addresses, endpoints and limits."""
        count = 0 if "client.sh" in line else 1
        wanted = re.search(r"-e (\d+)", line)
        if wanted is not None:
            count = int(wanted[1])
        flag = EndpointFlag.SUBFLOW if "-m subflow" in line else EndpointFlag.SIGNAL
        if "-b" in line.split():
            flag |= EndpointFlag.BACKUP
        self.limits = Limits(8, 8)
        self.endpoints = []
        for number in range(1, count + 1):
            address = LOCAL[:-1] + bytes((LOCAL[-1] + number,))
            self.stack.add_address(address, number)
            self.endpoints.append(Endpoint(number, address, flag))

    def _use_endpoints(self) -> None:
        endpoints, limits = list(self.endpoints), self.limits
        self.sockets.config.path_manager = lambda: Endpoints(endpoints, limits)
        self.stack.config = replace(self.sockets.config)


def _is_routed(address: bytes) -> bool:
    """Say whether packets to an address go to packetdrill: its own network alone does."""
    return address[:3] == REMOTE[:3] and len(address) == len(REMOTE)

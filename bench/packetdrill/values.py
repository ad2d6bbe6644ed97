"""Keys, tokens, numbers and addresses of a script, and packets made and compared with them.

As in packetdrill: DSNs count from the IDSN, sequence numbers from the initial ones; a variable that
has no value takes that of the packet, or a new one in packets that are injected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.packetdrill.reasons import Mismatch, Reason
from bench.packetdrill.script import Option, Packet

from mptcplab.wire.ip import format_address, parse_address
from mptcplab.wire.keys import add_addr_hmac, join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.segment import ACK, FIN, PSH, RST, SYN, URG, Segment

LOCAL = parse_address("192.168.0.1")
"""Addresses and port as packetdrill has them unless told otherwise: the stack's own ..."""
REMOTE = parse_address("192.0.2.1")
"""... and those of the peer that the script plays."""
PORT = 8080
REMOTE_PORT = 40_000

MASK32 = 0xFFFF_FFFF
MASK64 = 0xFFFF_FFFF_FFFF_FFFF
FLAGS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, ".": ACK, "U": URG}
CAPABLE_FLAGS = {f"flag_{letter}": 0x80 >> place for place, letter in enumerate("abcdefgh")}
MPTCP_NAMES = (
    "mpcapable",
    "dss",
    "mp_join_syn",
    "mp_join_syn_ack",
    "mp_join_ack",
    "add_address",
    "mp_prio",
    "mp_reset",
    "mp_fastclose",
    "remove_address",
)


class Flow:
    """One pair of sockets, and what its numbers are relative to."""

    def __init__(self, local: bytes, local_port: int, remote: bytes, remote_port: int) -> None:
        self.local = local
        self.local_port = local_port
        self.remote = remote
        self.remote_port = remote_port
        self.peer_isn = 1_000_000
        self.local_isn: int | None = None
        self.peer_nonce = 0x0BADCAFE
        self.local_nonce = 0
        self.ssn = 1
        self.offered_timestamps: set[bool] = set()
        """Whose SYN had them: the peer's (``True``), ours."""
        self.timestamp = 0
        """The last that was injected."""
        self.sent_timestamps: dict[int, int] = {}
        """What the script calls our timestamps, and what they were."""
        self.last_sent_timestamp = 0

    @property
    def has_timestamps(self) -> bool:
        """Whether both have agreed upon them."""
        return len(self.offered_timestamps) == 2

    @property
    def name(self) -> tuple[bytes, bytes]:
        """What it is found by: ports are the same for all flows of a script, but a client's."""
        return self.local, self.remote


class Values:
    """Everything that a script's packets refer to."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.addresses: dict[str, bytes] = {}
        self.remotes: dict[int, bytes] = {0: REMOTE}
        """The peer's addresses by identifier."""
        self.peer_key: int | None = None
        self.local_key: int | None = None
        self.flows: dict[tuple[bytes, bytes], Flow] = {}
        self.flow: Flow | None = None
        """That of the packet before."""
        self.client_port = 0
        """Where the stack opened the connection from; 0 where the script does."""
        self.reasons: list[Reason] = []

    def note(self, reason: Reason) -> None:
        """A difference that is explained: the script is played on."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def idsn(self, ours: bool) -> int:
        """Return the IDSN of what the stack (``ours``) or the peer sends."""
        key = self.local_key if ours else self.peer_key
        return 0 if key is None else token_and_idsn(key)[1]

    def new_remote(self, address_id: int | None = None) -> bytes:
        """Give the peer a further address, the next one."""
        highest = max(self.remotes.values())
        address = highest[:-1] + bytes((highest[-1] + 1,))
        self.remotes[max(self.remotes) + 1 if address_id is None else address_id] = address
        return address

    # Packets that are injected.

    def inject(self, packet: Packet) -> Segment:
        """Return an inbound packet for the wire."""
        flow = self._inbound_flow(packet)
        flags = sum(FLAGS[letter] for letter in packet.flags)
        segment = Segment(
            flow.remote,
            flow.remote_port,
            flow.local,
            flow.local_port,
            seq=(flow.peer_isn + packet.seq) & MASK32,
            flags=flags,
            window=packet.window or 0,
            payload_bytes=packet.payload_bytes,
            payload=bytes(packet.payload_bytes),
            dscp=(packet.tos or 0) >> 2,
        )
        if flags & ACK:
            segment.ack = ((flow.local_isn or 0) + (packet.ack or 0)) & MASK32
        mptcp: list[MptcpOption] = []
        for option in packet.options:
            if option.name in MPTCP_NAMES:
                mptcp.append(self._make(option, packet, flow))
            else:
                self._set_plain(segment, option, flow)
        segment.mptcp = tuple(mptcp)
        if flags & SYN and segment.ts_val is not None:
            flow.offered_timestamps.add(True)
        if flow.has_timestamps and segment.ts_val is None and not flags & (SYN | RST):
            self.note(Reason.NO_TIMESTAMPS)
            segment.ts_val, segment.ts_ecr = flow.timestamp, flow.last_sent_timestamp
        return segment

    def _inbound_flow(self, packet: Packet) -> Flow:
        last = self.flow
        remote = last.remote if last else REMOTE
        local = last.local if last else LOCAL
        if packet.source:
            if packet.source not in self.addresses:
                self.addresses[packet.source] = self.new_remote() if last else REMOTE
            remote = self.addresses[packet.source]
        if packet.destination:
            local = self.addresses.setdefault(packet.destination, local)
        flow = self.flows.get((local, remote))
        if flow is None or packet.flags == "S":
            flow = Flow(local, PORT, remote, REMOTE_PORT)
            self.flows[flow.name] = flow
        self.flow = flow
        return flow

    def _set_plain(self, segment: Segment, option: Option, flow: Flow) -> None:
        words = option.words
        if option.name == "mss":
            segment.mss = int(words[0])
        elif option.name == "sackOK":
            segment.sack_permitted = True
        elif option.name == "wscale":
            segment.wscale = int(words[0])
        elif option.name == "sack":
            base = flow.local_isn or 0
            segment.sack = tuple(
                ((base + int(left)) & MASK32, (base + int(right)) & MASK32)
                for left, right in (word.split(":") for word in words)
            )
        elif option.name == "TS":
            segment.ts_val = flow.timestamp = int(words[1])
            echoed = int(words[3])
            segment.ts_ecr = flow.sent_timestamps.get(echoed, flow.last_sent_timestamp)
        elif option.name != "nop":
            raise Mismatch(f"option {option.name!r} is not known")

    def _make(self, option: Option, packet: Packet, flow: Flow) -> MptcpOption:
        name, values = option.name, option.values
        if name == "mpcapable":
            return self._make_capable(option)
        if name == "dss":
            return self._make_dss(option, packet, flow)
        backup = values.get("backup") == "1"
        address_id = int(values.get("address_id", "0"))
        if name == "mp_join_syn":
            return MpJoinSyn(backup, address_id, self._token(values["token"]), flow.peer_nonce)
        if name == "mp_join_syn_ack":
            hmac = self._peer_hmac(flow)[:8]
            return MpJoinSynAck(backup, address_id, hmac, flow.peer_nonce)
        if name == "mp_join_ack":
            return MpJoinAck(self._peer_hmac(flow)[:20])
        if name == "add_address":
            return self._make_add_addr(option)
        if name == "mp_prio":
            return MpPrio(backup, address_id if "address_id" in values else None)
        if name == "mp_reset":
            return MpTcpRst(int(option.words[0]))
        if name == "mp_fastclose":
            return MpFastclose(int(values.get("ckey", self.local_key or 0)))
        return RemoveAddr((address_id,))

    def _make_capable(self, option: Option) -> MpCapable:
        keys: list[int | None] = []
        for word in filter(None, re.split(r",\s*", option.values.get("key", ""))):
            name, equals, value = word.strip().partition("=")
            if equals:
                self.keys[name] = int(value)
                if self.peer_key is None:
                    self.peer_key = int(value)
            keys.append(self.keys.setdefault(name, 0x0102030405060708))
        length = (
            option.words[option.words.index("mpcdatalen") + 1 :][:1]
            if ("mpcdatalen" in option.words)
            else []
        )
        keys += [None, None]
        data_length = int(length[0]) if length else None
        return MpCapable(*_capable_head(option), keys[0], keys[1], data_length)

    def _make_dss(self, option: Option, packet: Packet, flow: Flow) -> Dss:
        values = option.values
        fin = "fin" in option.words
        dss = Dss(data_fin=fin)
        for name, size, mask in (("dack4", 4, MASK32), ("dack8", 8, MASK64)):
            if name in values:
                dss.data_ack = (self.idsn(ours=True) + int(values[name])) & mask
                dss.data_ack_8 = size == 8
        taken = packet.payload_bytes + fin
        for name, size, mask in (("dsn4", 4, MASK32), ("dsn8", 8, MASK64)):
            if name in values:
                dss.dsn = (self.idsn(ours=False) + int(values[name])) & mask
                dss.dsn_8 = size == 8
                dss.ssn = int(values.get("ssn", flow.ssn))
                dss.data_length = int(values.get("dll", taken))
        flow.ssn += taken
        return dss

    def _make_add_addr(self, option: Option) -> AddAddr:
        values = option.values
        wanted = int(values["address_id"]) if "address_id" in values else None
        address = self._given_address(values["addr"])
        if address is None:
            address = self.addresses[values["addr"]] = self.new_remote(wanted)
        address_id = wanted
        if address_id is None:
            known = [one for one, other in self.remotes.items() if other == address]
            address_id = known[0] if known else max(self.remotes) + 1
        port = int(values["port"]) if "port" in values else None
        if "addr_echo" in option.words:
            return AddAddr(address_id, address, port, echo=True)
        keys = self.peer_key or 0, self.local_key or 0
        hmac = add_addr_hmac(*keys, address_id, address, port)
        return AddAddr(address_id, address, port, hmac=hmac)

    def _given_address(self, text: str) -> bytes | None:
        """Return the address of ``name`` or of ``name=inet_addr("...")``."""
        name, equals, value = text.partition("=")
        if equals:
            self.addresses[name] = parse_address(value.split('"')[1])
        return self.addresses.get(name)

    def _token(self, text: str) -> int:
        match = re.fullmatch(r"sha256_32\((\w+)\)", text)
        return int(text) if match is None else token_and_idsn(self.keys[match[1]])[0]

    def _peer_hmac(self, flow: Flow) -> bytes:
        keys = self.peer_key or 0, self.local_key or 0
        return join_hmac(*keys, flow.peer_nonce, flow.local_nonce)

    # Packets that leave.

    def compare(self, packet: Packet, live: Segment) -> None:
        """Raise ``Mismatch`` unless the stack's packet is what the script expects."""
        flow = self._outbound_flow(packet, live)
        if flow.local_isn is None:
            flow.local_isn = live.seq
        expected = sum(FLAGS[letter] for letter in packet.flags)
        said = [
            ("flags", expected, live.flags),
            ("seq", packet.seq, (live.seq - flow.local_isn) & MASK32),
            ("payload", packet.payload_bytes, live.payload_bytes),
        ]
        if live.flags & ACK and packet.ack is not None:
            said.append(("ack", packet.ack, (live.ack - flow.peer_isn) & MASK32))
        if packet.window is not None:
            said.append(("win", packet.window, live.window))
        if packet.tos is not None:
            said.append(("tos", packet.tos, live.dscp << 2 | live.ecn))
        _compare(said)
        self._compare_options(packet, live, flow)
        if live.flags & SYN and live.ts_val is not None:
            flow.offered_timestamps.add(False)

    def _outbound_flow(self, packet: Packet, live: Segment) -> Flow:
        for name, address in ((packet.source, live.src), (packet.destination, live.dst)):
            if name and self.addresses.setdefault(name, address) != address:
                wanted = format_address(self.addresses[name])
                raise Mismatch(f"address {name}: {wanted} expected, {format_address(address)} seen")
        flow = self.flows.get((live.src, live.dst))
        if flow is None or (packet.flags == "S" and live.seq != flow.local_isn):
            flow = Flow(live.src, live.src_port, live.dst, live.dst_port)
            self.flows[flow.name] = flow
        self.flow = flow
        return flow

    def _compare_options(self, packet: Packet, live: Segment, flow: Flow) -> None:
        expected = {option.name: option for option in packet.options if option.name != "nop"}
        plain = [name for name in expected if name not in MPTCP_NAMES]
        seen = {
            "mss": live.mss,
            "wscale": live.wscale,
            "sackOK": live.sack_permitted or None,
            "TS": live.ts_val,
            "sack": live.sack or None,
        }
        present = [name for name, value in seen.items() if value is not None]
        _compare([("options", sorted(plain), sorted(present))])
        for name in ("mss", "wscale"):
            if name in expected:
                _compare([(name, int(expected[name].words[0]), seen[name])])
        if "sack" in expected:
            blocks = [
                f"{(left - flow.peer_isn) & MASK32}:{(right - flow.peer_isn) & MASK32}"
                for left, right in live.sack
            ]
            _compare([("sack", expected["sack"].words, blocks)])
        if live.ts_val is not None:
            flow.sent_timestamps[int(expected["TS"].words[1])] = live.ts_val
            flow.last_sent_timestamp = live.ts_val
        mptcp = [option for option in packet.options if option.name in MPTCP_NAMES]
        names = [_name_of(option) for option in live.mptcp]
        _compare([("MPTCP options", sorted(o.name for o in mptcp), sorted(names))])
        for option in mptcp:
            self._compare_mptcp(option, live.mptcp[names.index(option.name)], flow)

    def _compare_mptcp(self, option: Option, live: MptcpOption, flow: Flow) -> None:
        values = option.values
        if isinstance(live, MpCapable):
            self._compare_capable(option, live)
        elif isinstance(live, Dss):
            self._compare_dss(option, live)
        elif isinstance(live, MpJoinSyn):
            flow.local_nonce = live.nonce
            _compare([("token", self._token(values["token"]), live.token)])
            _compare([("backup", values.get("backup") == "1", live.backup)])
            if "address_id" in values:
                _compare([("address_id", int(values["address_id"]), live.address_id)])
        elif isinstance(live, MpJoinSynAck):
            flow.local_nonce = live.nonce
            _compare([("HMAC", self._local_hmac(flow)[:8], live.hmac)])
            if (values.get("backup") == "1") is not live.backup:
                self.note(Reason.JOIN_BACKUP)
        elif isinstance(live, MpJoinAck):
            _compare([("HMAC", self._local_hmac(flow)[:20], live.hmac)])
        elif isinstance(live, AddAddr):
            self._compare_add_addr(option, live)
        elif isinstance(live, MpTcpRst):
            _compare([("reason", int(option.words[0]), live.reason)])
        elif isinstance(live, MpFastclose):
            _compare([("key", self.peer_key, live.receiver_key)])

    def _local_hmac(self, flow: Flow) -> bytes:
        keys = self.local_key or 0, self.peer_key or 0
        return join_hmac(*keys, flow.local_nonce, flow.peer_nonce)

    def _compare_capable(self, option: Option, live: MpCapable) -> None:
        version, flags = _capable_head(option)
        _compare([("version", version, live.version), ("flags", flags, live.flags)])
        names = [w.strip() for w in re.split(r",\s*", option.values.get("key", "")) if w.strip()]
        keys = [key for key in (live.sender_key, live.receiver_key) if key is not None]
        _compare([("keys", len(names), len(keys))])
        for name, key in zip(names, keys, strict=True):
            if name not in self.keys:
                self.keys[name] = key
                if self.local_key is None:
                    self.local_key = key
            _compare([(f"key {name}", self.keys[name], key)])
        words = option.words
        length = int(words[words.index("mpcdatalen") + 1]) if "mpcdatalen" in words else None
        _compare([("mpcdatalen", length, live.data_length)])

    def _compare_dss(self, option: Option, live: Dss) -> None:
        values = option.values
        _compare([("DATA_FIN", "fin" in option.words, live.data_fin)])
        for names, base, number in (
            (("dack4", "dack8"), self.idsn(ours=False), live.data_ack),
            (("dsn4", "dsn8"), self.idsn(ours=True), live.dsn),
        ):
            text = next((values[name] for name in names if name in values), None)
            relative = None if number is None else (number - base) & MASK32
            _compare([(names[0][:-1], None if text is None else int(text), relative)])
        if live.dsn is not None:
            if "ssn" in values:
                _compare([("ssn", int(values["ssn"]), live.ssn)])
            if "dll" in values:
                _compare([("dll", int(values["dll"]), live.data_length)])
            if "nocs" in option.words:
                _compare([("checksum", None, live.checksum)])

    def _compare_add_addr(self, option: Option, live: AddAddr) -> None:
        values = option.values
        _compare([("echo", "addr_echo" in option.words, live.echo)])
        address = self._given_address(values["addr"])
        if address is None:
            address = self.addresses[values["addr"]] = live.address
        _compare([("address", format_address(address), format_address(live.address))])
        if "address_id" in values:
            _compare([("address_id", int(values["address_id"]), live.address_id)])
        _compare([("port", values.get("port"), None if live.port is None else str(live.port))])
        if not live.echo:
            keys = self.local_key or 0, self.peer_key or 0
            hmac = add_addr_hmac(*keys, live.address_id, live.address, live.port)
            _compare([("HMAC", hmac, live.hmac)])


def _capable_head(option: Option) -> tuple[int, int]:
    """Return version and flags."""
    version = 0
    flags = 1
    for index, word in enumerate(option.words):
        if re.fullmatch(r"v\d+", word):
            version = int(word[1:])
        elif word == "flags":
            flags = int(option.words[index + 1], 0)
    if "flags" in option.values:
        names = re.split(r",\s*", option.values["flags"])
        flags = sum(CAPABLE_FLAGS[name.strip()] for name in names)
    return version, flags


def _name_of(option: MptcpOption) -> str:
    """Return what a script calls an option."""
    kinds: list[tuple[type[MptcpOption], str]] = [
        (MpCapable, "mpcapable"),
        (Dss, "dss"),
        (MpJoinSyn, "mp_join_syn"),
        (MpJoinSynAck, "mp_join_syn_ack"),
        (MpJoinAck, "mp_join_ack"),
        (AddAddr, "add_address"),
        (MpPrio, "mp_prio"),
        (MpTcpRst, "mp_reset"),
        (MpFastclose, "mp_fastclose"),
        (RemoveAddr, "remove_address"),
    ]
    return next((name for kind, name in kinds if isinstance(option, kind)), repr(option))


def _compare(said: Sequence[tuple[str, object, object]]) -> None:
    for what, expected, seen in said:
        if expected != seen:
            raise Mismatch(f"{what}: {_text(expected)} expected, {_text(seen)} seen")


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)

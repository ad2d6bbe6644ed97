"""MPTCP options, versions 0 (RFC 6824) and 1 (RFC 8684), as small objects that encode themselves.

Keys, tokens, nonces and sequence numbers are integers; truncated HMACs and addresses are bytes.
``mptcp_decode`` is the way back. An option's shape follows from its length and version alone:
whether it is legal on a segment with these TCP flags is the receiver's business.
"""

from __future__ import annotations

from typing import Final

from mptcplab.compiling import mypyc_attr
from mptcplab.seq import SEQ32_MASK, SEQ64_MASK, dsn_add, seq_add
from mptcplab.wire.checksum import dss_checksum
from mptcplab.wire.error import WireError

MPTCP_KIND: Final = 30  # RFC 8684 section 7.1

MP_CAPABLE: Final = 0x0
"""Option subtypes (RFC 8684 section 7.2)."""
MP_JOIN: Final = 0x1
DSS: Final = 0x2
ADD_ADDR: Final = 0x3
REMOVE_ADDR: Final = 0x4
MP_PRIO: Final = 0x5
MP_FAIL: Final = 0x6
MP_FASTCLOSE: Final = 0x7
MP_TCPRST: Final = 0x8

CAPABLE_CHECKSUM: Final = 0x80
"""MP_CAPABLE flags (RFC 8684 section 3.1): A, checksum required."""
CAPABLE_EXTENSIBILITY: Final = 0x40
CAPABLE_NO_JOIN: Final = 0x20
"""C (version 1): do not join the address and port of the initial subflow."""
CAPABLE_HMAC: Final = 0x01
"""H: HMAC-SHA256 in version 1, HMAC-SHA1 in version 0."""

DSS_ACK: Final = 0x01
"""DSS flags (RFC 8684 section 3.3): A, Data ACK present."""
DSS_ACK_8: Final = 0x02
DSS_MAP: Final = 0x04
DSS_DSN_8: Final = 0x08
DSS_FIN: Final = 0x10

RST_UNSPECIFIED: Final = 0
"""MP_TCPRST reasons (RFC 8684 section 3.6)."""
RST_MPTCP_ERROR: Final = 1
RST_LACK_OF_RESOURCES: Final = 2
RST_PROHIBITED: Final = 3
RST_TOO_MUCH_OUTSTANDING: Final = 4
RST_UNACCEPTABLE_PERFORMANCE: Final = 5
RST_MIDDLEBOX: Final = 6

MAX_MAPPING_BYTES: Final = 0xFFFF
"""The data-level length of a mapping has 16 bits (RFC 8684 section 3.3.1)."""

JOIN_SYNACK_HMAC_BYTES: Final = 8  # RFC 8684 figure 6
JOIN_ACK_HMAC_BYTES: Final = 20  # RFC 8684 figure 7
ADD_ADDR_HMAC_BYTES: Final = 8  # RFC 8684 section 3.4.1


class MptcpOption:
    """Base of all MPTCP options: compares and prints by ``fields``."""

    __slots__ = ()

    @property
    def subtype(self) -> int:
        """The subtype nibble."""
        raise NotImplementedError

    @property
    def length_bytes(self) -> int:
        """Length of the encoded option with kind and length bytes, without padding."""
        raise NotImplementedError

    def fields(self) -> tuple[object, ...]:
        """Return every value of the option, in constructor order."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """Return the option's bytes; raises ``WireError`` for a value that does not fit."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MptcpOption)
            and type(self) is type(other)
            and self.fields() == other.fields()
        )

    def __hash__(self) -> int:
        return hash((self.subtype, self.fields()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(field) for field in self.fields())})"


def _pack(value: int, size: int, what: str) -> bytes:
    if value < 0 or value >> (8 * size):
        raise WireError(f"{what} is {value}, expected an unsigned number of {size} bytes")
    return value.to_bytes(size, "big")


class MpCapable(MptcpOption):
    """MP_CAPABLE: no key, the sender's, or both keys, then optionally a first mapping (v1)."""

    __slots__ = ("checksum", "data_length", "flags", "receiver_key", "sender_key", "version")

    def __init__(
        self,
        version: int,
        flags: int = CAPABLE_HMAC,
        sender_key: int | None = None,
        receiver_key: int | None = None,
        data_length: int | None = None,
        checksum: int | None = None,
    ) -> None:
        self.version = version
        self.flags = flags
        self.sender_key = sender_key
        self.receiver_key = receiver_key
        self.data_length = data_length
        """Data-level length of the mapping on an ACK with data; DSN is IDSN + 1, SSN is 1."""
        self.checksum = checksum

    @property
    def subtype(self) -> int:
        return MP_CAPABLE

    @property
    def length_bytes(self) -> int:
        if self.sender_key is None:
            return 4
        if self.receiver_key is None:
            return 12
        if self.data_length is None:
            return 20
        return 22 if self.checksum is None else 24

    def fields(self) -> tuple[object, ...]:
        return (
            self.version,
            self.flags,
            self.sender_key,
            self.receiver_key,
            self.data_length,
            self.checksum,
        )

    def encode(self) -> bytes:
        first = _pack(self.version, 1, "MP_CAPABLE version")[0] & 0x0F
        out = bytes((MPTCP_KIND, self.length_bytes, first)) + _pack(self.flags, 1, "flags")
        if self.sender_key is None:
            return out
        out += _pack(self.sender_key, 8, "sender's key")
        if self.receiver_key is None:
            return out
        out += _pack(self.receiver_key, 8, "receiver's key")
        if self.data_length is None:
            return out
        out += _pack(self.data_length, 2, "data-level length")
        if self.checksum is None:
            return out
        return out + _pack(self.checksum, 2, "checksum")


class MpJoinSyn(MptcpOption):
    """MP_JOIN on a SYN: the token of the receiver's connection and the sender's nonce."""

    __slots__ = ("address_id", "backup", "nonce", "token")

    def __init__(self, backup: bool, address_id: int, token: int, nonce: int) -> None:
        self.backup = backup
        self.address_id = address_id
        self.token = token
        self.nonce = nonce

    @property
    def subtype(self) -> int:
        return MP_JOIN

    @property
    def length_bytes(self) -> int:
        return 12

    def fields(self) -> tuple[object, ...]:
        return (self.backup, self.address_id, self.token, self.nonce)

    def encode(self) -> bytes:
        return (
            bytes((MPTCP_KIND, 12, MP_JOIN << 4 | self.backup))
            + _pack(self.address_id, 1, "address ID")
            + _pack(self.token, 4, "token")
            + _pack(self.nonce, 4, "nonce")
        )


class MpJoinSynAck(MptcpOption):
    """MP_JOIN on a SYN/ACK: the left 8 bytes of the sender's HMAC, and its nonce."""

    __slots__ = ("address_id", "backup", "hmac", "nonce")

    def __init__(self, backup: bool, address_id: int, hmac: bytes, nonce: int) -> None:
        self.backup = backup
        self.address_id = address_id
        self.hmac = hmac
        self.nonce = nonce

    @property
    def subtype(self) -> int:
        return MP_JOIN

    @property
    def length_bytes(self) -> int:
        return 16

    def fields(self) -> tuple[object, ...]:
        return (self.backup, self.address_id, self.hmac, self.nonce)

    def encode(self) -> bytes:
        _check_size(self.hmac, JOIN_SYNACK_HMAC_BYTES, "HMAC of an MP_JOIN SYN/ACK")
        return (
            bytes((MPTCP_KIND, 16, MP_JOIN << 4 | self.backup))
            + _pack(self.address_id, 1, "address ID")
            + self.hmac
            + _pack(self.nonce, 4, "nonce")
        )


class MpJoinAck(MptcpOption):
    """MP_JOIN on the third packet: the left 20 bytes of the sender's HMAC."""

    __slots__ = ("hmac",)

    def __init__(self, hmac: bytes) -> None:
        self.hmac = hmac

    @property
    def subtype(self) -> int:
        return MP_JOIN

    @property
    def length_bytes(self) -> int:
        return 24

    def fields(self) -> tuple[object, ...]:
        return (self.hmac,)

    def encode(self) -> bytes:
        _check_size(self.hmac, JOIN_ACK_HMAC_BYTES, "HMAC of an MP_JOIN ACK")
        return bytes((MPTCP_KIND, 24, MP_JOIN << 4, 0)) + self.hmac


@mypyc_attr(free_list_len=1)
class Dss(MptcpOption):
    """Data sequence signal: DATA_ACK, mapping and DATA_FIN, each optional.

    A mapping is present when ``dsn`` is not ``None``. Values of 4-byte fields are the lower 32
    bits; ``seq.unwrap32`` restores the rest.
    """

    __slots__ = (
        "checksum",
        "data_ack",
        "data_ack_8",
        "data_fin",
        "data_length",
        "dsn",
        "dsn_8",
        "ssn",
    )

    def __init__(
        self,
        data_ack: int | None = None,
        data_ack_8: bool = True,
        dsn: int | None = None,
        dsn_8: bool = True,
        ssn: int = 0,
        data_length: int = 0,
        checksum: int | None = None,
        data_fin: bool = False,
    ) -> None:
        self.data_ack = data_ack
        self.data_ack_8 = data_ack_8
        """Whether the DATA_ACK has 8 bytes; without meaning where there is none."""
        self.dsn = dsn
        self.dsn_8 = dsn_8
        """Whether the DSN has 8 bytes; without meaning where there is no mapping."""
        self.ssn = ssn
        """Relative subflow sequence number: the first payload byte is 1; 0 for a lone DATA_FIN."""
        self.data_length = data_length
        """Data-level length: counts the DATA_FIN; 0 in an infinite mapping. On a train it may be
        more than the 16 bits of the field: it then stands for several mappings, see ``of_part``."""
        self.checksum = checksum
        self.data_fin = data_fin

    @property
    def subtype(self) -> int:
        return DSS

    @property
    def infinite(self) -> bool:
        """Whether this is the infinite mapping of fallback (RFC 8684 section 3.7)."""
        return self.dsn is not None and self.data_length == 0

    @property
    def length_bytes(self) -> int:
        length = 4
        if self.data_ack is not None:
            length += 8 if self.data_ack_8 else 4
        if self.dsn is not None:
            length += 14 if self.dsn_8 else 10
            if self.checksum is not None:
                length += 2
        return length

    def fields(self) -> tuple[object, ...]:
        return (
            self.data_ack,
            self.data_ack_8 if self.data_ack is not None else None,
            self.dsn,
            self.dsn_8 if self.dsn is not None else None,
            self.ssn,
            self.data_length,
            self.checksum,
            self.data_fin,
        )

    def with_data_ack(self, data_ack: int) -> Dss:
        """Return the same signal with another DATA_ACK."""
        return Dss(
            data_ack & (SEQ64_MASK if self.data_ack_8 else SEQ32_MASK),
            self.data_ack_8,
            self.dsn,
            self.dsn_8,
            self.ssn,
            self.data_length,
            self.checksum,
            self.data_fin,
        )

    def of_part(self, start: int, length: int, payload_sum: int) -> Dss:
        """Return the mapping of ``length`` of this one's bytes, from the ``start``-th on.

        ``payload_sum`` is their ``ones_sum``, for the checksum where there is one.
        """
        if self.dsn is None:
            return self
        dsn = dsn_add(self.dsn, start)
        ssn = seq_add(self.ssn, start)
        total = None
        if self.checksum is not None:
            total = dss_checksum(dsn, ssn, length, payload_sum)
        return Dss(self.data_ack, self.data_ack_8, dsn, self.dsn_8, ssn, length, total)

    def encode(self) -> bytes:
        flags = DSS_FIN if self.data_fin else 0
        body = b""
        if self.data_ack is not None:
            if self.data_ack_8:
                flags |= DSS_ACK | DSS_ACK_8
                body = _pack(self.data_ack, 8, "DATA_ACK")
            else:
                flags |= DSS_ACK
                body = _pack(self.data_ack, 4, "4-byte DATA_ACK")
        if self.dsn is not None:
            if self.dsn_8:
                flags |= DSS_MAP | DSS_DSN_8
                body += _pack(self.dsn, 8, "DSN")
            else:
                flags |= DSS_MAP
                body += _pack(self.dsn, 4, "4-byte DSN")
            body += _pack(self.ssn, 4, "SSN") + _pack(self.data_length, 2, "data-level length")
            if self.checksum is not None:
                body += _pack(self.checksum, 2, "checksum")
        elif self.checksum is not None:
            raise WireError("a DSS with a checksum needs a mapping: set dsn")
        return bytes((MPTCP_KIND, 4 + len(body), DSS << 4, flags)) + body


class AddAddr(MptcpOption):
    """ADD_ADDR. Version 1 has an echo bit, and an HMAC unless it is an echo; version 0 neither."""

    __slots__ = ("address", "address_id", "echo", "hmac", "port", "version")

    def __init__(
        self,
        address_id: int,
        address: bytes,
        port: int | None = None,
        echo: bool = False,
        hmac: bytes | None = None,
        version: int = 1,
    ) -> None:
        self.address_id = address_id
        self.address = address
        self.port = port
        self.echo = echo
        self.hmac = hmac
        self.version = version

    @property
    def subtype(self) -> int:
        return ADD_ADDR

    @property
    def length_bytes(self) -> int:
        length = 4 + len(self.address)
        if self.port is not None:
            length += 2
        if self.hmac is not None:
            length += ADD_ADDR_HMAC_BYTES
        return length

    def fields(self) -> tuple[object, ...]:
        return (self.address_id, self.address, self.port, self.echo, self.hmac, self.version)

    def encode(self) -> bytes:
        if len(self.address) not in (4, 16):
            raise WireError(f"an address has {len(self.address)} bytes, expected 4 or 16")
        if self.version == 0:
            if self.echo or self.hmac is not None:
                raise WireError("ADD_ADDR of version 0 has neither echo nor HMAC")
            nibble = 4 if len(self.address) == 4 else 6
        else:
            if self.echo is not (self.hmac is None):
                raise WireError("ADD_ADDR of version 1 has an HMAC, or is an echo, but not both")
            nibble = 1 if self.echo else 0
        out = bytes((MPTCP_KIND, self.length_bytes, ADD_ADDR << 4 | nibble))
        out += _pack(self.address_id, 1, "address ID") + self.address
        if self.port is not None:
            out += _pack(self.port, 2, "port")
        if self.hmac is not None:
            _check_size(self.hmac, ADD_ADDR_HMAC_BYTES, "HMAC of an ADD_ADDR")
            out += self.hmac
        return out


class RemoveAddr(MptcpOption):
    """REMOVE_ADDR: the address IDs that are gone."""

    __slots__ = ("address_ids",)

    def __init__(self, address_ids: tuple[int, ...]) -> None:
        self.address_ids = address_ids

    @property
    def subtype(self) -> int:
        return REMOVE_ADDR

    @property
    def length_bytes(self) -> int:
        return 3 + len(self.address_ids)

    def fields(self) -> tuple[object, ...]:
        return (self.address_ids,)

    def encode(self) -> bytes:
        if not self.address_ids:
            raise WireError("REMOVE_ADDR needs at least one address ID")
        out = bytes((MPTCP_KIND, self.length_bytes, REMOVE_ADDR << 4))
        for address_id in self.address_ids:
            out += _pack(address_id, 1, "address ID")
        return out


class MpPrio(MptcpOption):
    """MP_PRIO: whether a subflow is backup; of this subflow, or (v0) of those of an address ID."""

    __slots__ = ("address_id", "backup")

    def __init__(self, backup: bool, address_id: int | None = None) -> None:
        self.backup = backup
        self.address_id = address_id

    @property
    def subtype(self) -> int:
        return MP_PRIO

    @property
    def length_bytes(self) -> int:
        return 3 if self.address_id is None else 4

    def fields(self) -> tuple[object, ...]:
        return (self.backup, self.address_id)

    def encode(self) -> bytes:
        out = bytes((MPTCP_KIND, self.length_bytes, MP_PRIO << 4 | self.backup))
        return out if self.address_id is None else out + _pack(self.address_id, 1, "address ID")


class MpFail(MptcpOption):
    """MP_FAIL: the DSN at which the checksum failed."""

    __slots__ = ("dsn",)

    def __init__(self, dsn: int) -> None:
        self.dsn = dsn

    @property
    def subtype(self) -> int:
        return MP_FAIL

    @property
    def length_bytes(self) -> int:
        return 12

    def fields(self) -> tuple[object, ...]:
        return (self.dsn,)

    def encode(self) -> bytes:
        return bytes((MPTCP_KIND, 12, MP_FAIL << 4, 0)) + _pack(self.dsn, 8, "DSN")


class MpFastclose(MptcpOption):
    """MP_FASTCLOSE: abort of the connection, proven by the key of the option's receiver."""

    __slots__ = ("receiver_key",)

    def __init__(self, receiver_key: int) -> None:
        self.receiver_key = receiver_key

    @property
    def subtype(self) -> int:
        return MP_FASTCLOSE

    @property
    def length_bytes(self) -> int:
        return 12

    def fields(self) -> tuple[object, ...]:
        return (self.receiver_key,)

    def encode(self) -> bytes:
        return bytes((MPTCP_KIND, 12, MP_FASTCLOSE << 4, 0)) + _pack(self.receiver_key, 8, "key")


class MpTcpRst(MptcpOption):
    """MP_TCPRST: why a subflow is reset; ``transient`` (T) says that a retry may succeed."""

    __slots__ = ("flags", "reason")

    def __init__(self, reason: int, flags: int = 0) -> None:
        self.reason = reason
        self.flags = flags
        """The U, V, W and T bits; T is the lowest."""

    @property
    def transient(self) -> bool:
        """The T bit."""
        return self.flags & 1 != 0

    @property
    def subtype(self) -> int:
        return MP_TCPRST

    @property
    def length_bytes(self) -> int:
        return 4

    def fields(self) -> tuple[object, ...]:
        return (self.reason, self.flags)

    def encode(self) -> bytes:
        return bytes((MPTCP_KIND, 4, MP_TCPRST << 4 | self.flags & 0xF)) + _pack(
            self.reason, 1, "reason"
        )


class UnknownMptcp(MptcpOption):
    """An MPTCP option of a subtype without meaning here (experimental or not assigned)."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The whole option with kind and length bytes."""

    @property
    def subtype(self) -> int:
        return self.raw[2] >> 4

    @property
    def length_bytes(self) -> int:
        return len(self.raw)

    def fields(self) -> tuple[object, ...]:
        return (self.raw,)

    def encode(self) -> bytes:
        return self.raw


def _check_size(data: bytes, size: int, what: str) -> None:
    if len(data) != size:
        raise WireError(f"{what} has {len(data)} bytes, expected {size}")

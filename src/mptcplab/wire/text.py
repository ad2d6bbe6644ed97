"""TCP flags, MPTCP options and endpoints as text, in tcpdump's manner.

Everything that prints packets writes them so: ``segment.format_segment``, a packet of a capture.
"""

from __future__ import annotations

from collections.abc import Iterator

from mptcplab.wire.ip import format_address
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)

_FLAG_LETTERS = "FSRP.UEW"
_SUBTYPE_NAMES = (
    "capable", "join", "dss", "add-addr", "rem-addr", "prio", "fail", "fast-close", "tcp-rst",
)  # fmt: skip
_RESET_REASONS = (
    "unspecified error", "MPTCP error", "lack of resources", "administratively prohibited",
    "too much outstanding data", "unacceptable performance", "middlebox interference",
)  # fmt: skip
"""RFC 8684 section 3.6."""


def format_flags(flags: int) -> str:
    """Return TCP flags in tcpdump's letters: ``S.`` is SYN and ACK."""
    letters = (letter for bit, letter in enumerate(_FLAG_LETTERS) if flags & (1 << bit))
    return "".join(letters) or "none"


def format_endpoint(address: str, port: int) -> str:
    """Return ADDRESS:PORT, with brackets around an IPv6 address (RFC 5952 section 6)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def format_subtype(subtype: int) -> str:
    """Return the name of an MPTCP option's subtype."""
    return _SUBTYPE_NAMES[subtype] if subtype < len(_SUBTYPE_NAMES) else f"subtype {subtype}"


def format_reset_reason(reason: int) -> str:
    """Return what the reason code of an MP_TCPRST means (RFC 8684 section 3.6)."""
    return _RESET_REASONS[reason] if reason < len(_RESET_REASONS) else f"reason {reason}"


def format_option(option: MptcpOption) -> str:
    """Return one MPTCP option as text, e.g. ``mp join id 1 token 0x6d90c0fd nonce 0x...``.

    Its length is left out: it follows from what the option holds.
    """
    values = " ".join(_values(option))
    return f"mp {format_subtype(option.subtype)}" + (f" {values}" if values else "")


def _values(option: MptcpOption) -> Iterator[str]:
    match option:
        case Dss():
            yield from _dss(option)
        case MpCapable():
            yield from _capable(option)
        case MpJoinSyn():
            yield from _join(option.backup, option.address_id)
            yield f"token 0x{option.token:08x} nonce 0x{option.nonce:08x}"
        case MpJoinSynAck():
            yield from _join(option.backup, option.address_id)
            yield f"hmac 0x{option.hmac.hex()} nonce 0x{option.nonce:08x}"
        case MpJoinAck():
            yield f"hmac 0x{option.hmac.hex()}"
        case AddAddr():
            yield from _add_addr(option)
        case RemoveAddr():
            yield f"id {' '.join(str(address_id) for address_id in option.address_ids)}"
        case MpPrio():
            yield "backup" if option.backup else "regular"
            if option.address_id is not None:
                yield f"id {option.address_id}"
        case MpFail():
            yield f"seq {option.dsn}"
        case MpFastclose():
            yield f"key 0x{option.receiver_key:016x}"
        case MpTcpRst():
            if option.transient:
                yield "transient"
            yield f"reason {option.reason}"
        case _:
            yield f"0x{option.encode()[2:].hex()}"


def _capable(option: MpCapable) -> Iterator[str]:
    yield f"v{option.version} flags 0x{option.flags:02x}"
    for key in (option.sender_key, option.receiver_key):
        if key is not None:
            yield f"{{0x{key:016x}}}"
    if option.data_length is not None:
        yield f"len {option.data_length}"
    if option.checksum is not None:
        yield f"csum 0x{option.checksum:04x}"


def _join(backup: bool, address_id: int) -> Iterator[str]:
    if backup:
        yield "backup"
    yield f"id {address_id}"


def _dss(option: Dss) -> Iterator[str]:
    if option.data_fin:
        yield "fin"
    if option.data_ack is not None:
        yield f"ack {option.data_ack}"
    if option.dsn is not None:
        last = (1 << (64 if option.dsn_8 else 32)) - 1
        end = (option.dsn + option.data_length) & last
        yield f"seq {option.dsn}:{end} subseq {option.ssn} len {option.data_length}"
    if option.checksum is not None:
        yield f"csum 0x{option.checksum:04x}"


def _add_addr(option: AddAddr) -> Iterator[str]:
    if option.version == 0:
        yield "v0"
    if option.echo:
        yield "echo"
    address = format_address(option.address)
    place = address if option.port is None else format_endpoint(address, option.port)
    yield f"id {option.address_id} {place}"
    if option.hmac is not None:
        yield f"hmac 0x{option.hmac.hex()}"

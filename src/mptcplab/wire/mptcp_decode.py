"""The bytes of one MPTCP option to its object, or to the reason why it is malformed.

Lengths are exact, as Linux has them (net/mptcp/options.c, ``mptcp_parse_option``). Reserved bits
are ignored, as the RFC asks.
"""

from __future__ import annotations

from typing import Final

from mptcplab.wire.mptcp import (
    ADD_ADDR,
    DSS,
    DSS_ACK,
    DSS_ACK_8,
    DSS_DSN_8,
    DSS_FIN,
    DSS_MAP,
    MP_CAPABLE,
    MP_FAIL,
    MP_FASTCLOSE,
    MP_JOIN,
    MP_PRIO,
    MP_TCPRST,
    REMOVE_ADDR,
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
    UnknownMptcp,
)


def decode_mptcp(raw: bytes) -> MptcpOption | str:
    """Decode one option, ``raw`` holding exactly the bytes that its length byte claims.

    Returns the option, or the reason why it is malformed.
    """
    if len(raw) < 3:
        return f"an MPTCP option of {len(raw)} bytes has no subtype"
    subtype = raw[2] >> 4
    if subtype == DSS:
        return _decode_dss(raw)
    if subtype == MP_CAPABLE:
        return _decode_capable(raw)
    if subtype == MP_JOIN:
        return _decode_join(raw)
    if subtype == ADD_ADDR:
        return _decode_add_addr(raw)
    if subtype in _FIXED_LENGTHS:
        return _decode_short(subtype, raw)
    return UnknownMptcp(raw)


def _number(raw: bytes, start: int, size: int) -> int:
    return int.from_bytes(raw[start : start + size], "big")


def _decode_dss(raw: bytes) -> MptcpOption | str:
    if len(raw) < 4:
        return "a DSS of 3 bytes has no flags"
    flags = raw[3]
    ack_8 = flags & DSS_ACK_8 != 0
    dsn_8 = flags & DSS_DSN_8 != 0
    offset = 4
    data_ack: int | None = None
    if flags & DSS_ACK:
        size = 8 if ack_8 else 4
        data_ack = int.from_bytes(raw[4 : 4 + size], "big")
        offset += size
    if not flags & DSS_MAP:
        if len(raw) != offset:
            return f"a DSS with flags 0x{flags:02x} has {len(raw)} bytes, expected {offset}"
        return Dss(data_ack, ack_8, data_fin=flags & DSS_FIN != 0)
    dsn_size = 8 if dsn_8 else 4
    end = offset + dsn_size + 6
    if len(raw) not in (end, end + 2):
        return f"a DSS with flags 0x{flags:02x} has {len(raw)} bytes, expected {end} or {end + 2}"
    return Dss(
        data_ack,
        ack_8,
        int.from_bytes(raw[offset : end - 6], "big"),
        dsn_8,
        int.from_bytes(raw[end - 6 : end - 2], "big"),
        raw[end - 2] << 8 | raw[end - 1],
        raw[end] << 8 | raw[end + 1] if len(raw) > end else None,
        flags & DSS_FIN != 0,
    )


def _decode_capable(raw: bytes) -> MptcpOption | str:
    version = raw[2] & 0x0F
    size = len(raw)
    lengths = (12, 20) if version == 0 else (4, 12, 20, 22, 24)
    if size not in lengths:
        expected = " or ".join(str(length) for length in lengths)
        return f"MP_CAPABLE of version {version} has {size} bytes, expected {expected}"
    return MpCapable(
        version,
        raw[3],
        _number(raw, 4, 8) if size >= 12 else None,
        _number(raw, 12, 8) if size >= 20 else None,
        _number(raw, 20, 2) if size >= 22 else None,
        _number(raw, 22, 2) if size >= 24 else None,
    )


def _decode_join(raw: bytes) -> MptcpOption | str:
    backup = raw[2] & 1 != 0
    size = len(raw)
    if size == 12:
        return MpJoinSyn(backup, raw[3], _number(raw, 4, 4), _number(raw, 8, 4))
    if size == 16:
        return MpJoinSynAck(backup, raw[3], raw[4:12], _number(raw, 12, 4))
    if size == 24:
        return MpJoinAck(raw[4:24])
    return f"MP_JOIN has {size} bytes, expected 12, 16 or 24"


# Length without HMAC -> (address bytes, whether a port follows).
_ADD_ADDR_SHAPES: Final = {8: (4, False), 10: (4, True), 20: (16, False), 22: (16, True)}


def _decode_add_addr(raw: bytes) -> MptcpOption | str:
    size = len(raw)
    nibble = raw[2] & 0x0F
    hmac: bytes | None = None
    echo = False
    version = 1
    base = size
    if size in _ADD_ADDR_SHAPES:
        family_nibble = 4 if size <= 10 else 6
        if nibble == family_nibble:
            version = 0  # RFC 6824 section 3.4.1: the IP version in the low nibble, no HMAC
        elif nibble & 1:
            echo = True
        else:
            return f"ADD_ADDR of {size} bytes has no HMAC and is neither an echo nor version 0"
    else:
        base = size - 8
        if base not in _ADD_ADDR_SHAPES:
            return f"ADD_ADDR has {size} bytes, which is no address with or without port and HMAC"
        if nibble & 1:
            return f"ADD_ADDR of {size} bytes is an echo with an HMAC"
        hmac = raw[size - 8 :]
    address_size, has_port = _ADD_ADDR_SHAPES[base]
    end = 4 + address_size
    port = _number(raw, end, 2) if has_port else None
    return AddAddr(raw[3], raw[4:end], port, echo, hmac, version)


_FIXED_LENGTHS: Final[dict[int, tuple[str, tuple[int, ...]]]] = {
    REMOVE_ADDR: ("REMOVE_ADDR", tuple(range(4, 41))),
    MP_PRIO: ("MP_PRIO", (3, 4)),
    MP_FAIL: ("MP_FAIL", (12,)),
    MP_FASTCLOSE: ("MP_FASTCLOSE", (12,)),
    MP_TCPRST: ("MP_TCPRST", (4,)),
}


def _decode_short(subtype: int, raw: bytes) -> MptcpOption | str:
    name, lengths = _FIXED_LENGTHS[subtype]
    if len(raw) not in lengths:
        if subtype == REMOVE_ADDR:
            return "REMOVE_ADDR has no address ID"
        expected = " or ".join(str(length) for length in lengths)
        return f"{name} has {len(raw)} bytes, expected {expected}"
    if subtype == REMOVE_ADDR:
        return RemoveAddr(tuple(raw[3:]))
    if subtype == MP_PRIO:
        return MpPrio(raw[2] & 1 != 0, raw[3] if len(raw) == 4 else None)
    if subtype == MP_FAIL:
        return MpFail(_number(raw, 4, 8))
    if subtype == MP_FASTCLOSE:
        return MpFastclose(_number(raw, 4, 8))
    return MpTcpRst(raw[3], raw[2] & 0x0F)

"""Segments and options as one line of text, in tcpdump's manner."""

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
from mptcplab.wire.segment import Segment

_FLAG_LETTERS = "FSRP.UEW"


def format_segment(segment: Segment) -> str:
    """Return e.g. ``10.0.0.1.1234 > 10.0.0.2.80: Flags [S], seq 1, win 65535, options [...]``."""
    length = segment.payload_bytes
    flags = "".join(
        letter for bit, letter in enumerate(_FLAG_LETTERS) if segment.flags & (1 << bit)
    )
    parts = [f"Flags [{flags or 'none'}]"]
    if length:
        parts.append(f"seq {segment.seq}:{(segment.seq + length) & 0xFFFF_FFFF}")
    else:
        parts.append(f"seq {segment.seq}")
    if segment.flags & 0x10:
        parts.append(f"ack {segment.ack}")
    parts.append(f"win {segment.window}")
    options = ",".join(_option_texts(segment))
    if options:
        parts.append(f"options [{options}]")
    parts.append(f"length {length}")
    if segment.packets > 1:
        parts.append(f"in {segment.packets} packets")
    source = f"{format_address(segment.src)}.{segment.src_port}"
    return f"{source} > {format_address(segment.dst)}.{segment.dst_port}: {', '.join(parts)}"


def _option_texts(segment: Segment) -> Iterator[str]:
    if segment.mss is not None:
        yield f"mss {segment.mss}"
    if segment.sack_permitted:
        yield "sackOK"
    if segment.ts_val is not None:
        yield f"TS val {segment.ts_val} ecr {segment.ts_ecr}"
    if segment.wscale is not None:
        yield f"wscale {segment.wscale}"
    if segment.sack:
        blocks = "".join(f"{{{left}:{right}}}" for left, right in segment.sack)
        yield f"sack {len(segment.sack)} {blocks}"
    for option in segment.mptcp:
        yield format_option(option)
    for raw in segment.raw_options:
        yield f"unknown-{raw.kind} 0x{raw.raw[2:].hex()}"
    for bad in segment.malformed:
        name = "mptcp" if bad.kind == 30 else f"option-{bad.kind}"
        yield f"{name} malformed ({bad.reason})"


def format_option(option: MptcpOption) -> str:
    """Return one MPTCP option as text, e.g. ``mptcp 12 join token 0x6d90c0fd nonce ...``."""
    return f"mptcp {option.length_bytes} {_describe(option)}"


def _describe(option: MptcpOption) -> str:
    if isinstance(option, Dss):
        return _describe_dss(option)
    if isinstance(option, MpCapable):
        return _describe_capable(option)
    if isinstance(option, MpJoinSyn):
        return (
            f"join{_backup(option.backup)} id {option.address_id} "
            f"token 0x{option.token:08x} nonce 0x{option.nonce:08x}"
        )
    if isinstance(option, MpJoinSynAck):
        return (
            f"join{_backup(option.backup)} id {option.address_id} "
            f"hmac 0x{option.hmac.hex()} nonce 0x{option.nonce:08x}"
        )
    if isinstance(option, MpJoinAck):
        return f"join hmac 0x{option.hmac.hex()}"
    if isinstance(option, AddAddr):
        return _describe_add_addr(option)
    if isinstance(option, RemoveAddr):
        return f"rem-addr id {' '.join(str(address_id) for address_id in option.address_ids)}"
    if isinstance(option, MpPrio):
        suffix = "" if option.address_id is None else f" id {option.address_id}"
        return f"prio{_backup(option.backup) or ' non-backup'}{suffix}"
    if isinstance(option, MpFail):
        return f"fail dsn {option.dsn}"
    if isinstance(option, MpFastclose):
        return f"fast-close key 0x{option.receiver_key:016x}"
    if isinstance(option, MpTcpRst):
        return f"tcprst{' transient' if option.transient else ''} reason 0x{option.reason:02x}"
    return f"subtype {option.subtype} 0x{option.encode()[2:].hex()}"


def _backup(backup: bool) -> str:
    return " backup" if backup else ""


def _describe_capable(option: MpCapable) -> str:
    parts = [f"capable v{option.version}"]
    if option.flags & 0x80:
        parts.append("csum")
    if option.flags & 0x20:
        parts.append("nojoin")
    keys = [key for key in (option.sender_key, option.receiver_key) if key is not None]
    if keys:
        parts.append("{" + ",".join(f"0x{key:016x}" for key in keys) + "}")
    if option.data_length is not None:
        parts.append(f"len {option.data_length}")
    if option.checksum is not None:
        parts.append(f"csum 0x{option.checksum:04x}")
    return " ".join(parts)


def _describe_dss(option: Dss) -> str:
    parts = ["dss"]
    if option.data_fin:
        parts.append("fin")
    if option.data_ack is not None:
        parts.append(f"ack {option.data_ack}")
    if option.dsn is not None:
        parts.append(f"seq {option.dsn} subseq {option.ssn} len {option.data_length}")
    if option.checksum is not None:
        parts.append(f"csum 0x{option.checksum:04x}")
    return " ".join(parts)


def _describe_add_addr(option: AddAddr) -> str:
    parts = ["add-addr"]
    if option.version == 0:
        parts.append("v0")
    if option.echo:
        parts.append("echo")
    parts.append(f"id {option.address_id} {format_address(option.address)}")
    text = " ".join(parts)
    if option.port is not None:
        text += f":{option.port}"
    if option.hmac is not None:
        text += f" hmac 0x{option.hmac.hex()}"
    return text

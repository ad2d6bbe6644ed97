"""MPTCP options as text, in tcpdump's manner."""

from __future__ import annotations

from mptcplab.wire.ip import format_address
from mptcplab.wire.mptcp import (
    CAPABLE_CHECKSUM,
    CAPABLE_NO_JOIN,
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
    if option.flags & CAPABLE_CHECKSUM:
        parts.append("csum")
    if option.flags & CAPABLE_NO_JOIN:
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

"""Fields of MPTCP options other than DSS, by name, for filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mptcplab.trace.decode.truncated_options import CutOption
from mptcplab.wire.mptcp import (
    AddAddr,
    MpCapable,
    MpFastclose,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)

_Reader = Callable[[MptcpOption], tuple[int | None, ...]]


def _subtype(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.subtype,)


def _token(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.token,) if isinstance(option, MpJoinSyn | CutOption) else ()


def _key(option: MptcpOption) -> tuple[int | None, ...]:
    return _sender_key(option) + _receiver_key(option)


def _sender_key(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.sender_key,) if isinstance(option, MpCapable) else ()


def _receiver_key(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.receiver_key,) if isinstance(option, MpCapable | MpFastclose) else ()


def _address_id(option: MptcpOption) -> tuple[int | None, ...]:
    if isinstance(option, RemoveAddr):
        return tuple(option.address_ids)
    has_one = AddAddr | MpJoinSyn | MpJoinSynAck | MpPrio | CutOption
    return (option.address_id,) if isinstance(option, has_one) else ()


def _version(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.version,) if isinstance(option, MpCapable) else ()


def _nonce(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.nonce,) if isinstance(option, MpJoinSyn | MpJoinSynAck) else ()


def _backup(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.backup,) if isinstance(option, MpJoinSyn | MpJoinSynAck | MpPrio) else ()


def _rst_reason(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.reason,) if isinstance(option, MpTcpRst) else ()


def _echo(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.echo,) if isinstance(option, AddAddr) and option.version == 1 else ()


def _announced_port(option: MptcpOption) -> tuple[int | None, ...]:
    return (option.port,) if isinstance(option, AddAddr) else ()


def _no_value(option: MptcpOption) -> tuple[int | None, ...]:  # noqa: ARG001
    return ()


OPTION_FIELDS: Final[dict[str, _Reader]] = {
    "subtype": _subtype,
    "token": _token,
    "key": _key,
    "sender_key": _sender_key,
    "receiver_key": _receiver_key,
    "address_id": _address_id,
    "version": _version,
    "nonce": _nonce,
    "backup flag": _backup,
    "rst_reason": _rst_reason,
    "echo": _echo,
    "announced_port": _announced_port,
    "data_fin flag": _no_value,  # of DSS alone
}


def option_values(name: str, option: MptcpOption) -> list[int]:
    """Return an option's values of one of ``OPTION_FIELDS``."""
    return [int(value) for value in OPTION_FIELDS[name](option) if value is not None]

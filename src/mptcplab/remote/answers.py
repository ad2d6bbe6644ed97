"""What agents answer, checked before anything else sees it.

A host may be broken or hostile: every value has the type, and every text and list the length, that
an honest agent's has; texts are made printable.  An AnswerError says what was wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_interface
from typing import Any, Final

from mptcplab.applications.exchange import Exchange
from mptcplab.linux.probes.diag import MptcpInfo, SocketSample, TcpInfo
from mptcplab.plain_text import printable
from mptcplab.remote.agent.sampling import MPTCP_FIELDS, SOCKET_FIELDS, TCP_FIELDS

_TEXT_MOST: Final = 4096
_LIST_MOST: Final = 1 << 17
_NUMBER_MOST: Final = 1 << 64
_SHOWN: Final = 60

Check = Callable[[Any, str], Any]
"""Returns a value as it may be used; takes it and where it was, and raises AnswerError."""


class AnswerError(ValueError):
    """An agent's answer is not what it may be."""


def number(value: Any, where: str) -> int:
    """Take a whole number of 64 bits."""
    if type(value) is not int or not -_NUMBER_MOST < value < _NUMBER_MOST:
        raise AnswerError(f"{where}: {shown(value)}; expected a number of 64 bits")
    return value


def boolean(value: Any, where: str) -> bool:
    """Take true or false."""
    if type(value) is not bool:
        raise AnswerError(f"{where}: {shown(value)}; expected true or false")
    return value


def text(value: Any, where: str) -> str:
    """Take a text, and return it with what does not print escaped."""
    if type(value) is not str or len(value) > _TEXT_MOST:
        raise AnswerError(f"{where}: {shown(value)}; expected a text of {_TEXT_MOST} at most")
    return printable(value)


def address(value: Any, where: str) -> str:
    """Take an IP address."""
    try:
        return str(ip_address(text(value, where)))
    except ValueError as error:
        raise AnswerError(f"{where}: {shown(value)}; expected an address") from error


def interface_address(value: Any, where: str) -> str:
    """Take an IP address with its prefix length."""
    try:
        return str(ip_interface(text(value, where)))
    except ValueError as error:
        raise AnswerError(f"{where}: {shown(value)}; expected an address") from error


def perhaps(check: Check) -> Check:
    """Take null as well."""
    return lambda value, where: None if value is None else check(value, where)


def list_of(check: Check) -> Check:
    """Take a list of such values."""

    def checked(value: Any, where: str) -> list[Any]:
        if type(value) is not list or len(value) > _LIST_MOST:
            raise AnswerError(f"{where}: {shown(value)}; expected a list")
        return [check(each, f"{where}[{place}]") for place, each in enumerate(value)]

    return checked


def table_of(check: Check) -> Check:
    """Take an object with any names and such values."""

    def checked(value: Any, where: str) -> dict[str, Any]:
        if type(value) is not dict or len(value) > _LIST_MOST:
            raise AnswerError(f"{where}: {shown(value)}; expected an object")
        return {
            text(name, where): check(each, f"{where}.{printable(name[:_SHOWN])}")
            for name, each in value.items()
        }

    return checked


def record(fields: Mapping[str, Check]) -> Check:
    """Take an object with these fields, and return no others."""

    def checked(value: Any, where: str) -> dict[str, Any]:
        if type(value) is not dict:
            raise AnswerError(f"{where}: {shown(value)}; expected an object")
        missing = [name for name in fields if name not in value]
        if missing:
            raise AnswerError(f"{where}: lacks {missing[0]}")
        return {name: check(value[name], f"{where}.{name}") for name, check in fields.items()}

    return checked


def shown(value: Any) -> str:
    """Return a value as an error shows it: short and printable."""
    whole = printable(str(value)[: _SHOWN + 1])
    return repr(value)[:_SHOWN] if not isinstance(value, str) else f'"{whole[:_SHOWN]}"'


FACTS: Final = record(
    {
        "hostname": text,
        "kernel": text,
        "python": text,
        "root": boolean,
        "interfaces": list_of(
            record(
                {
                    "name": text,
                    "mtu": number,
                    "up": boolean,
                    "carrier": boolean,
                    "gso_max_segs": perhaps(number),
                    "addresses": list_of(interface_address),
                }
            )
        ),
        "management": list_of(text),
        "defaults": list_of(text),
        "tables": list_of(number),
        "priorities": list_of(number),
        "endpoints": list_of(
            record(
                {
                    "id": number,
                    "address": address,
                    "flags": list_of(text),
                    "port": number,
                    "dev": text,
                }
            )
        ),
        "limits": perhaps(record({"subflows": number, "add_addr_accepted": number})),
        "sysctls": table_of(perhaps(text)),
        "congestion": list_of(text),
        "programs": list_of(text),
        "programs_user": text,
        "iperf3_has_mptcp": boolean,
        "netem": perhaps(record({"problem": text, "qdiscs": table_of(text)})),
        "journal": perhaps(
            record({"standing": boolean, "who": text, "since": text, "changes": number})
        ),
    }
)
CLOCK: Final = record({"monotonic_ns": number, "unix_ns": number})
COUNTERS: Final = record({"counters": table_of(number)})
UNDONE: Final = record({"undone": number, "problems": list_of(text)})
CAPTURED: Final = record({"bytes": number, "whole": boolean})
PRINTED: Final = record({"bytes": number, "dropped": number})
BOUND: Final = record({"bound": boolean})
ENDED: Final = record({"program": number, "status": number})

_DEVICE: Final = record(
    {
        "at_ns": number,
        "up": boolean,
        **dict.fromkeys(("rx_bytes", "rx_packets", "tx_bytes", "tx_packets"), number),
    }
)


def _listed(fields: Mapping[str, Check], kind: Callable[..., Any]) -> Check:
    """Take a list of the values of these fields, in their order, and return a ``kind`` of them."""

    def checked(value: Any, where: str) -> Any:
        if type(value) is not list or len(value) != len(fields):
            raise AnswerError(f"{where}: {shown(value)}; expected {len(fields)} values")
        return kind(
            **{
                name: check(each, f"{where}.{name}")
                for (name, check), each in zip(fields.items(), value, strict=True)
            }
        )

    return checked


def _values(**values: Any) -> list[Any]:
    return list(values.values())


_OPTIONAL_NUMBERS: Final = {
    *("ssthresh_bytes", "send_window_bytes", "receive_window_bytes", "busy_ns"),
    *("receive_window_limited_ns", "send_buffer_limited_ns", "receive_buffer_bytes"),
    *("send_buffer_bytes", "token", "local_id", "queued_bytes"),
}
_KINDS: Final[dict[str, Check]] = {
    "state": text,
    "congestion": text,
    "local_address": address,
    "remote_address": address,
    "backup": boolean,
    "has_room": boolean,
    "fallback": boolean,
    **dict.fromkeys(_OPTIONAL_NUMBERS, perhaps(number)),
}


def _fields(names: tuple[str, ...]) -> dict[str, Check]:
    return {name: _KINDS.get(name, number) for name in names}


_TCP: Final = perhaps(_listed(_fields(TCP_FIELDS), TcpInfo))
_MPTCP: Final = perhaps(_listed(_fields(MPTCP_FIELDS) | {"token": number}, MptcpInfo))
_SOCKET: Final = _listed(_fields(SOCKET_FIELDS), dict)


def _socket(value: Any, where: str) -> SocketSample:
    if type(value) is not list or len(value) != 3:
        raise AnswerError(f"{where}: {shown(value)}; expected a socket")
    own, tcp, mptcp = value
    return SocketSample(
        **_SOCKET(own, where), tcp=_TCP(tcp, f"{where}.tcp"), mptcp=_MPTCP(mptcp, f"{where}.mptcp")
    )


_SOCKETS: Final[dict[str, Check]] = {
    "at_ns": number,
    "tcp": list_of(_socket),
    "mptcp": list_of(_socket),
    "bytes": table_of(list_of(number)),
}
SOCKETS: Final = record(_SOCKETS)
SAMPLE: Final = record(
    {
        **_SOCKETS,
        "interfaces": table_of(_DEVICE),
        "rtt": table_of(number),
        "cpu": list_of(number),
    }
)

_Fields = Mapping[str, Check]
_CONNECTED: Final[_Fields] = {
    "local": text,
    "remote": text,
    "protocol": text,
    "send_buffer_bytes": number,
    "receive_buffer_bytes": number,
}
_SAID: Final[Mapping[str, _Fields]] = {
    "ready": {},
    "connected": _CONNECTED,
    "sent": {"bytes": number},
    "done": {"bytes": number, "protocol": text},
    "corrupt": {"text": text},
    "failed": {"text": text},
}
_EXCHANGE: Final[_Fields] = {
    field.name: perhaps(number) if "None" in str(field.type) else number
    for field in dataclasses.fields(Exchange)
}
_SAID_OF_ALL: Final[Mapping[str, _Fields]] = {
    "ready": {},
    "opening": {"slot": number},
    "connected": {**_CONNECTED, "slot": number},
    "exchanges": {"rows": list_of(_listed(_EXCHANGE, _values))},
    "messages": {
        "rows": list_of(_listed(dict.fromkeys(("number", "start_ns", "bytes"), number), _values))
    },
    "arrivals": {"rows": list_of(_listed(dict.fromkeys(("number", "end_ns"), number), _values))},
    "done": {},
    "corrupt": {"text": text},
    "failed": {"text": text},
}
"""Of the end of a whole flow of requests or messages."""
_OPTIONAL: Final[_Fields] = {"sent": number}
_PROTOCOLS: Final = ("mptcp", "tcp", "fallback", "udp")


def said(value: Any, where: str, connections: int = 0) -> dict[str, Any]:
    """Take what one end of a connection has said, or that of a flow with so many of them."""
    known = _SAID_OF_ALL if connections else _SAID
    event = text(value.get("event") if type(value) is dict else None, f"{where}.event")
    if event not in known:
        raise AnswerError(f"{where}.event: {shown(event)}; expected one of {', '.join(known)}")
    fields = {"event": text, "monotonic_ns": number, **known[event]}
    fields |= {name: check for name, check in _OPTIONAL.items() if name in value}
    checked: dict[str, Any] = record(fields)(value, where)
    if checked.get("protocol", "tcp") not in _PROTOCOLS:
        raise AnswerError(f"{where}.protocol: {shown(checked['protocol'])}; expected mptcp or tcp")
    if not 0 <= checked.get("slot", 0) < max(connections, 1):
        raise AnswerError(f"{where}.slot: {checked['slot']}; expected one of {connections}")
    return checked

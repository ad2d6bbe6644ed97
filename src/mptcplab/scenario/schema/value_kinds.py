"""Kinds of values: how each is written, parsed, checked, documented and described to an editor.

A parser takes a value as TOML gives it and returns the resolved value, or raises UnitError with a
text that says what was found and, after "; expected ", what was expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface
from math import inf, isfinite
from pathlib import Path as FilePath
from typing import Any

from mptcplab.applications.distributions import Distribution, fixed
from mptcplab.plain_text import printable
from mptcplab.scenario.errors import duplicate, nearest, one_of
from mptcplab.units import UnitError, parse_duration, parse_fraction, parse_rate, parse_size

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
INTERFACE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}"  # IFNAMSIZ is 16 with the final zero
ENDPOINT_NAME = rf"{INTERFACE_NAME}|[0-9a-fA-F.:]+"
"""What an endpoint is of: an interface, or an address."""
_NUMBER = r"\s*\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"
_FRACTION = (
    r"^\s*\+?((100(\.0*)?|\d{1,2}(\.\d*)?|\.\d+)\s*%"
    r"|0?\.\d+|[01](\.0*)?|\d(\.\d*)?[eE]-\d+)\s*$"
)
_BYTES = r"([kKMGT]|[kKMGT]i)?B?"
_TIME = r"(ns|us|µs|ms|s|min|h)"
_QUEUE = re.compile(rf"({_NUMBER})(packets?|BDP|bdp)\s*")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value: its name in the documentation, its parser, JSON Schema and an example."""

    name: str
    parse: Callable[[Any], Any]
    json: dict[str, Any]
    example: str


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """A queue limit as written: ``unit`` is "bytes", "packets", "ns" or "bdp"."""

    amount: float
    unit: str


def quoted(value: object) -> str:
    """Return a TOML value as an error quotes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return repr(value)


def _number_or(pattern: str, *, zero: bool) -> dict[str, Any]:
    bound = "minimum" if zero else "exclusiveMinimum"
    return {"anyOf": [{"type": "string", "pattern": pattern}, {"type": "number", bound: 0}]}


def _positive(parse: Callable[[Any], int], what: str, example: str) -> Callable[[Any], int]:
    def parser(value: Any) -> int:
        number = parse(value)
        if number <= 0:
            raise UnitError(
                f"{quoted(value)} is too small; expected {what} above 0 such as {example}"
            )
        return number

    return parser


def _at_most(parse: Callable[[Any], int], most: int, shown: str) -> Callable[[Any], int]:
    def parser(value: Any) -> int:
        number = parse(value)
        if number > most:
            raise UnitError(f"{quoted(value)} is out of range; expected {shown} at most")
        return number

    return parser


MAX_RATE_BPS = 10**14
MAX_DURATION_NS = 1000 * 3600 * 10**9
MAX_QUEUE = {"packets": 10**9, "bdp": 10**6, "ns": MAX_DURATION_NS, "bytes": 2**40}
_duration = _at_most(parse_duration, MAX_DURATION_NS, '"1000h"')

RATE = Kind(
    "rate",
    _positive(_at_most(parse_rate, MAX_RATE_BPS, '"100Tb/s"'), "a rate", '"1Gb/s"'),
    _number_or(rf"^{_NUMBER}([kKMGT]|[kKMGT]i)?(bits?/s|b/s|bits?|bps|b)?\s*$", zero=False),
    '"300Mb/s"',
)
DURATION = Kind(
    "duration", _duration, _number_or(rf"^{_NUMBER}{_TIME}?\s*$", zero=True), '"33.3ms"'
)
POSITIVE_DURATION = Kind(
    "duration",
    _positive(_duration, "a duration", '"900s"'),
    _number_or(rf"^{_NUMBER}{_TIME}?\s*$", zero=False),
    '"900s"',
)
FRACTION = Kind(
    "fraction",
    parse_fraction,
    {
        "anyOf": [
            {"type": "string", "pattern": _FRACTION},
            {"type": "number", "minimum": 0, "maximum": 1},
        ]
    },
    '"0.1%"',
)


def size(low: int, high: int = 2**40) -> Kind:
    """Return the kind of a size of ``low`` to ``high`` bytes."""

    def parse(value: Any) -> int:
        number = parse_size(value)
        if not low <= number <= high:
            raise UnitError(
                f"{quoted(value)} is {number} bytes; expected a size from {low} to {high} bytes"
            )
        return number

    return Kind("size", parse, _number_or(rf"^{_NUMBER}{_BYTES}\s*$", zero=True), '"10MB"')


@dataclass(frozen=True, slots=True)
class InFile:
    """A distribution whose values are the lines of a file; ``parse`` takes a line."""

    name: str
    parse: Callable[[Any], int]


_SPREADS = (
    re.compile(r"(uniform)\s+(.+?)\s+to\s+(.+)"),
    re.compile(r"(exponential|poisson)\s+(.+)"),
    re.compile(r"(pareto)\s+(.+?)\s+shape\s+(\d+\.?\d*)"),
    re.compile(r"(lognormal)\s+(.+?)\s+sigma\s+(\d+\.?\d*)"),
)


def _distribution(parse: Callable[[Any], int], example: str) -> Callable[[Any], Any]:
    """Return the parser of a quantity that may vary; ``parse`` takes single ones."""

    def parser(value: Any) -> Distribution | InFile:
        text = value.strip() if isinstance(value, str) else ""
        if text.startswith("file "):
            return InFile(text.removeprefix("file ").strip(), parse)
        for pattern in _SPREADS:
            match = pattern.fullmatch(text)
            if match is not None:
                return _spread(value, match, parse)
        if text.split(" ")[0] in _SPREAD_FORMS:
            raise UnitError(f"{value!r} is incomplete; expected {_forms(example)}")
        return fixed(parse(value))

    return parser


_SPREAD_FORMS = {
    "uniform": "uniform {0} to {0}",
    "exponential": "exponential {0}",
    "poisson": "poisson {0}",
    "pareto": "pareto {0} shape 1.2",
    "lognormal": "lognormal {0} sigma 1",
    "file": "file NAME",
}


def _forms(example: str) -> str:
    forms = [f'"{form.format(example)}"' for form in _SPREAD_FORMS.values()]
    return f"one of {', '.join(forms)}"


def _spread(value: str, match: re.Match[str], parse: Callable[[Any], int]) -> Distribution:
    kind, first = match[1], parse(match[2])
    if kind == "uniform":
        second = float(parse(match[3]))
        if second < first:
            raise UnitError(f"{value!r} has its most below its least; expected the least first")
        return Distribution(kind, first, second)
    if first <= 0:
        raise UnitError(f"{value!r} has no values but 0; expected a value above 0 after {kind}")
    if kind in ("exponential", "poisson"):
        return Distribution("exponential", first)
    second = float(match[3])
    if not 0 < second <= 100:
        raise UnitError(f"{value!r} is out of range; expected a number above 0, 100 at most")
    return Distribution(kind, first, second)


def _json_of_spread(number: str) -> dict[str, Any]:
    one = number.removeprefix("^").removesuffix("$").strip()
    factor = r"\d+\.?\d*"
    forms = (
        one,
        rf"uniform\s+{one}\s+to\s+{one}",
        rf"(exponential|poisson)\s+{one}",
        rf"pareto\s+{one}\s+shape\s+{factor}",
        rf"lognormal\s+{one}\s+sigma\s+{factor}",
        r"file\s+\S.*",
    )
    return _number_or(rf"^\s*({'|'.join(forms)})\s*$", zero=True)


_one_size = size(0)
SIZES = Kind(
    "size, or distribution of sizes",
    _distribution(_one_size.parse, "10KB"),
    _json_of_spread(rf"{_NUMBER}{_BYTES}"),
    '"exponential 10KB"',
)
DURATIONS = Kind(
    "duration, or distribution of durations",
    _distribution(_duration, "100ms"),
    _json_of_spread(rf"{_NUMBER}{_TIME}?"),
    '"exponential 100ms"',
)
ARRIVALS = Kind(
    "duration, or distribution of durations",
    _distribution(_duration, "20ms"),
    _json_of_spread(rf"{_NUMBER}{_TIME}?"),
    '"poisson 20ms"',
)


def _rates(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise UnitError(
            f"{quoted(value)} is not a list of rates; expected such as "
            '["1Mb/s", "2.5Mb/s", "5Mb/s"]'
        )
    rates = tuple(RATE.parse(each) for each in value)
    if list(rates) != sorted(set(rates)):
        raise UnitError(
            f"[{', '.join(map(quoted, value))}] does not rise; expected each rate above the one "
            "before"
        )
    return rates


RATES = Kind(
    "list of rates",
    _rates,
    {"type": "array", "items": RATE.json, "minItems": 1},
    '["1Mb/s", "2.5Mb/s"]',
)


def _percentile(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100:
        raise UnitError(f"{quoted(value)} is no percentile; expected a number between 0 and 100")
    return float(value)


PERCENTILE = Kind(
    "number between 0 and 100",
    _percentile,
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100},
    "95",
)


def integer(low: int, high: int) -> Kind:
    """Return the kind of a whole number from ``low`` to ``high``."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise UnitError(
                f"{quoted(value)} is not a whole number; expected one from {low} to {high}"
            )
        if not low <= value <= high:
            raise UnitError(f"{value} is out of range; expected a number from {low} to {high}")
        return value

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(f"number, {low} to {high}", parse, schema, str(low))


SCTP_VALUE = integer(0, 2**31 - 1)
SCTP_SETTINGS = (
    *("rto_min_default", "rto_max_default", "rto_initial_default", "init_rto_max_default"),
    *("path_rtx_max_default", "assoc_rtx_max_default", "init_rtx_max_default", "path_pf_threshold"),
    *("heartbeat_interval_default", "delayed_sack_time_default", "sack_freq_default"),
    *("initial_cwnd", "max_burst_default", "fr_max_burst_default", "use_cwnd_based_maxburst"),
    *("L2_abc_variable", "cmt_use_dac", "buffer_splitting", "nrsack_enable", "ecn_enable"),
    *("max_chunks_on_queue", "min_residual", "peer_chunk_oh"),
)
"""Settings of libusrsctp that a flow may have (usrsctp.h), without their prefix "sctp_"."""


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UnitError(f"{quoted(value)} is not true or false; expected true or false, unquoted")
    return value


BOOLEAN = Kind("true or false", _boolean, {"type": "boolean"}, "true")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UnitError(f"{quoted(value)} is not text; expected text in quotes")
    return printable(value)


TEXT = Kind("text", _text, {"type": "string"}, '"text"')


@dataclass(frozen=True, slots=True)
class More:
    """What may stand for a name beside those that are known."""

    pattern: str | None
    """Of what is taken on every machine, for the JSON Schema."""
    text: str
    accepts: Callable[[str], bool]


BPF_OBJECT = r"[\w./-]+\.o"
_AVAILABLE = FilePath("/proc/sys/net/ipv4/tcp_available_congestion_control")


def _is_kernel_congestion(value: str) -> bool:
    """Return whether a name is an object file's, or of a congestion control of this kernel's."""
    if re.fullmatch(BPF_OBJECT, value):
        return True
    try:
        return value in _AVAILABLE.read_text().split()
    except OSError:  # not Linux
        return False


KERNEL_CONGESTION = More(
    rf"^{BPF_OBJECT}$",
    "another that this kernel offers (net.ipv4.tcp_available_congestion_control), or the file of "
    'a BPF object, such as "mine.bpf.o"',
    _is_kernel_congestion,
)


_SCHEDULERS = FilePath("/proc/sys/net/mptcp/available_schedulers")


def _is_kernel_scheduler(value: str) -> bool:
    """Return whether this kernel has a packet scheduler of a name."""
    try:
        return value in _SCHEDULERS.read_text().split()
    except OSError:  # not Linux, or before 6.8
        return False


KERNEL_SCHEDULER = More(
    None, "another that this kernel offers (net.mptcp.available_schedulers)", _is_kernel_scheduler
)


def choice(
    *names: str,
    classes: bool = False,
    renamed: dict[str, str] | None = None,
    more: More | None = None,
) -> Kind:
    """Return the kind of one of ``names``; with ``classes`` also ``"package.module:Class"``.

    ``renamed`` has names of earlier versions, and what each is called now; ``more`` is what else
    is taken.
    """
    own = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"

    def parse(value: Any) -> str:
        if not isinstance(value, str | int):
            raise UnitError(f"{quoted(value)} is not a name; expected {one_of(names)}")
        if isinstance(value, int) and str(value) in names:  # --set hosts.*.cpu=2012
            return str(value)
        if isinstance(value, str) and (value in names or (classes and re.fullmatch(own, value))):
            return value
        if isinstance(value, str) and more is not None and more.accepts(value):
            return value
        hint = nearest(value, names) if isinstance(value, str) else ""
        if renamed and value in renamed:
            hint = f'it is called "{renamed[value]}" now'
        wanted = one_of(names) + (f", {more.text}" if more else "")
        wanted += ', or a class of your own as "module:Class"' if classes else ""
        raise UnitError(f"{quoted(value)} is not known; expected {wanted}{hint and f' ({hint})'}")

    schema: dict[str, Any] = {"enum": list(names)}
    if classes:
        patterns = [own, *([more.pattern] if more is not None and more.pattern else ())]
        schema = {"anyOf": [schema, *({"type": "string", "pattern": each} for each in patterns)]}
    return Kind(one_of(names), parse, schema, f'"{names[0]}"')


def _names(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(n, str) for n in listed):
        raise UnitError(
            f"{quoted(value)} is not a name or a list of names; "
            'expected such as "slow" or ["fast", "slow"]'
        )
    twice = duplicate(listed)
    if twice is not None:
        raise UnitError(f'"{twice}" is listed twice; expected each name once')
    return tuple(listed)


NAMES = Kind(
    "name or list of names",
    _names,
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "uniqueItems": True,
            },
        ]
    },
    "",
)


def choices(*names: str) -> Kind:
    """Return the kind of one or several of ``names``, of which letters' case does not matter."""
    by_case = {name.lower(): name for name in names}

    def parse(value: Any) -> tuple[str, ...]:
        known = []
        for item in _names(value):
            if item.lower() not in by_case:
                hint = nearest(item, names)
                raise UnitError(
                    f"{quoted(item)} is not known; expected {one_of(names)}{hint and f' ({hint})'}"
                )
            known.append(by_case[item.lower()])
        return tuple(dict.fromkeys(known))

    one = {"enum": list(names)}
    several = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    return Kind(f"one or several of {one_of(names)}", parse, {"anyOf": [one, several]}, "")


def _ipv4(value: Any) -> IPv4Address:
    try:
        if isinstance(value, str):
            return IPv4Address(value)
    except ValueError:
        pass
    raise UnitError(f'{quoted(value)} is not an IPv4 address; expected such as "10.0.1.200"')


IPV4_ADDRESS = Kind(
    "IPv4 address", _ipv4, {"type": "string", "pattern": r"^\d+(\.\d+){3}$"}, '"10.0.1.200"'
)


DESTINATION = r"default|[A-Za-z0-9][A-Za-z0-9_.-]{0,31}|[0-9a-fA-F.:]+/\d{1,3}"
"""What a route may lead to: everything, a host, or a subnet."""


def _hops(value: Any) -> tuple[str, ...]:
    names = _names(value)
    if "unreachable" in names and len(names) > 1:
        raise UnitError(
            '"unreachable" is named with next hops; expected "unreachable" alone, or next hops'
        )
    return names


HOPS = Kind("next hop or list of next hops", _hops, NAMES.json, '"r2"')


def _between(value: Any) -> tuple[str, str]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(end, str) for end in value)
    ):
        raise UnitError(
            f'{quoted(value)} is not two ends; expected such as ["alice", "bob"] '
            'or ["alice:eth1", "switch"]'
        )
    return value[0], value[1]


BETWEEN = Kind(
    "two ends",
    _between,
    {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
    '["alice", "bob"]',
)


def _address(value: Any) -> IPv4Interface | IPv6Interface:
    wanted = 'expected an address with its prefix length, such as "10.0.1.1/24" or "fd00::1/64"'
    if not isinstance(value, str):
        raise UnitError(f"{quoted(value)} is not an address; {wanted}")
    if "/" not in value:
        raise UnitError(f"{value!r} has no prefix length; {wanted}")
    try:
        address = ip_interface(value)
    except ValueError as error:
        raise UnitError(f"{value!r} is not an address; {wanted}") from error
    ip = address.ip
    if (
        ip.is_loopback
        or ip.is_multicast
        or ip.is_unspecified
        or (ip.version == 6 and ip.is_link_local)
    ):
        raise UnitError(
            f"{value!r} is a loopback, multicast, unspecified or link-local address; "
            "expected one that other hosts can reach"
        )
    if address.network.prefixlen < address.max_prefixlen - 1 and (
        address.ip == address.network.network_address
        or (address.version == 4 and address.ip == address.network.broadcast_address)
    ):
        raise UnitError(
            f"{value!r} is the subnet itself or its broadcast address; "
            "expected the address of a host in it"
        )
    return address


def _addresses(value: Any) -> tuple[IPv4Interface | IPv6Interface, ...]:
    return tuple(_address(item) for item in (value if isinstance(value, list) else [value]))


_ADDRESS_JSON = {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/\d{1,3}$"}
ADDRESSES = Kind(
    "address or list of addresses",
    _addresses,
    {"anyOf": [_ADDRESS_JSON, {"type": "array", "items": _ADDRESS_JSON}]},
    '"10.0.1.1/24"',
)


def _queue_limit(value: Any) -> QueueLimit:
    wanted = 'expected "100 packets", "1MB", "50ms" or "1 BDP"'
    if not isinstance(value, str):
        unit = " has no unit" if isinstance(value, int | float) else " is not a queue limit"
        raise UnitError(f"{quoted(value)}{unit}; {wanted}")
    match = _QUEUE.fullmatch(value)
    if match is not None:
        unit = "bdp" if match[4].lower() == "bdp" else "packets"
        limit = QueueLimit(float(match[1]), unit)
    else:
        limit = _bytes_or_time(value, wanted)
    if limit.amount > MAX_QUEUE[limit.unit]:
        raise UnitError(f"{value!r} is out of range; {wanted}")
    if limit.amount <= 0 or (limit.unit == "packets" and limit.amount != int(limit.amount)):
        raise UnitError(f"{value!r} holds no whole packet; {wanted}")
    return limit


def _bytes_or_time(value: str, wanted: str) -> QueueLimit:
    if re.fullmatch(_NUMBER, value):
        raise UnitError(f"{value!r} has no unit; {wanted}")
    try:
        return QueueLimit(parse_duration(value), "ns")
    except UnitError:
        pass
    try:
        return QueueLimit(parse_size(value), "bytes")
    except UnitError as error:
        raise UnitError(f"{value!r} is not a queue limit; {wanted}") from error


def _queue(value: Any) -> tuple[QueueLimit, ...]:
    limits = tuple(_queue_limit(item) for item in (value if isinstance(value, list) else [value]))
    if not limits or sum(limit.unit == "packets" for limit in limits) > 1 or len(limits) > 2:
        raise UnitError(
            f"{quoted(value)} is neither one limit nor one in packets and one in another unit; "
            'expected such as "1MB" or ["100 packets", "1MB"]'
        )
    if len(limits) == 2 and all(limit.unit != "packets" for limit in limits):
        raise UnitError(
            "neither limit is in packets; expected one in packets and one in another unit, "
            'such as ["100 packets", "1MB"]'
        )
    return limits


_QUEUE_JSON = {
    "type": "string",
    "pattern": rf"^{_NUMBER}(packets?|BDP|bdp|{_TIME}|B|([kKMGT]|[kKMGT]i)B?)\s*$",
}
QUEUE = Kind(
    "queue limit",
    _queue,
    {"anyOf": [_QUEUE_JSON, {"type": "array", "items": _QUEUE_JSON, "minItems": 1, "maxItems": 2}]},
    '"1 BDP"',
)


def _families(value: Any) -> tuple[int, ...]:
    known = {"ipv4": 4, "ipv6": 6}
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise UnitError('the list is empty; expected "ipv4", "ipv6" or both')
    for item in listed:
        if not isinstance(item, str) or item not in known:
            raise UnitError(f'{quoted(item)} is not an address family; expected "ipv4" or "ipv6"')
    return tuple(dict.fromkeys(known[item] for item in listed))


_FAMILY_JSON = {"enum": ["ipv4", "ipv6"]}
FAMILIES = Kind(
    '"ipv4", "ipv6" or a list of both',
    _families,
    {"anyOf": [_FAMILY_JSON, {"type": "array", "items": _FAMILY_JSON, "minItems": 1}]},
    "",
)


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UnitError(f"{quoted(value)} is not a list of texts; expected a list")
    return tuple(value)


STRINGS = Kind(
    "list of texts",
    _strings,
    {"type": "array", "items": {"type": "string"}},
    '["flows.*.buffer=2MB"]',
)


def _listed(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise UnitError(f"{quoted(value)} is not a list of values; expected at least one")
    texts = []
    for item in value:
        if isinstance(item, dict) or not isinstance(item, str | int | float | list):
            raise UnitError(f"{quoted(item)} is no value; expected numbers, texts or lists")
        text = item if isinstance(item, str) else json.dumps(item)
        if text in texts:
            raise UnitError(f"{quoted(item)} is listed twice; expected each value once")
        texts.append(text)
    return tuple(texts)


LISTED = Kind(
    "list of values, as `--set` takes them",
    _listed,
    {"type": "array", "minItems": 1},
    '["256KB", "1MB"]',
)


def _figures(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
        raise UnitError(f"{quoted(value)} is not a list of figure numbers; expected such as [13]")
    return tuple(value)


FIGURES = Kind("list of numbers", _figures, {"type": "array", "items": {"type": "integer"}}, "[13]")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnitError(f"{quoted(value)} is not a number; expected such as 5 or 2.5")
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if not isfinite(number):
        raise UnitError(f"{quoted(value)} is not finite; expected such as 5 or 2.5")
    return number


NUMBER = Kind("number", _number, {"type": "number"}, "5")


def _sysctl(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UnitError(f"{quoted(value)} is not a sysctl's value; expected a number or text")
    return str(value)


SYSCTL = Kind("number or text", _sysctl, {"type": ["integer", "string"]}, "1")

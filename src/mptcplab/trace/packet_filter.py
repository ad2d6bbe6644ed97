"""Filter expressions over packets: ``subtype == join and (subflow == 2 or dsn in 1..5000)``.

Fields are the protocol's terms (``FIELDS`` lists them), or Wireshark's names (``WIRESHARK``).  A
flag of ours such as ``syn`` or ``retransmission`` stands alone; Wireshark's are compared, as in
``tcp.flags.syn == 1``, and a field of Wireshark's that stands alone asks whether the packet has it.
Comparisons are ``== != < <= > >=`` (or ``eq ne lt le gt ge``), ``&`` (has any of these bits) and
``in`` with a range ``low..high`` (both ends included) or a list of values and ranges ``{a, b..c}``;
they combine with ``and``, ``or``, ``xor``, ``not`` (or ``&& || ^^ !``) and parentheses.  An address
may be a network, as in ``10.0.0.0/8``.

A field that a packet does not have matches nothing.  Of a field that it has several of (``addr``,
``port``, ``token`` ...) one that fits is enough; with ``!=`` all must differ, as in Wireshark.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask

SUBTYPES: Final = {
    "capable": 0, "mp_capable": 0, "join": 1, "mp_join": 1, "dss": 2, "add_addr": 3,
    "remove_addr": 4, "prio": 5, "mp_prio": 5, "fail": 6, "mp_fail": 6, "fastclose": 7,
    "mp_fastclose": 7, "tcprst": 8, "mp_tcprst": 8,
}  # fmt: skip

NUMBERS: Final = (
    "packet", "time", "connection", "subflow", "side", "sport", "dport", "port", "seq", "ack",
    "len", "window", "dsn", "data_ack", "ssn", "dlen", "in_flight", "rtt", "token", "key",
    "address_id",
)  # fmt: skip
FLAGS: Final = (
    "syn", "fin", "rst", "psh", "mptcp", "data_fin", "retransmission", "out_of_order",
    "duplicate_ack", "backup",
)  # fmt: skip
ADDRESSES: Final = ("src", "dst", "addr")
FIELDS: Final = (*NUMBERS, *FLAGS, "subtype", *ADDRESSES)

_OPTION: Final = "tcp.options.mptcp."
WIRESHARK: Final = {
    "frame.number": "packet", "frame.time_relative": "time",
    "frame.time_epoch": "epoch",
    "ip.src": "ipv4 src", "ip.dst": "ipv4 dst", "ip.addr": "ipv4 addr",
    "ipv6.src": "ipv6 src", "ipv6.dst": "ipv6 dst", "ipv6.addr": "ipv6 addr",
    "ip": "ipv4 src", "ipv6": "ipv6 src", "tcp": "sport",
    "tcp.srcport": "sport", "tcp.dstport": "dport", "tcp.port": "port", "tcp.len": "len",
    "tcp.seq": "followed seq", "tcp.ack": "followed ack",
    "tcp.seq_raw": "raw seq", "tcp.ack_raw": "raw ack",
    "tcp.window_size": "followed window", "tcp.window_size_value": "raw window",
    "tcp.hdr_len": "header", "tcp.stream": "stream", "tcp.flags": "flags",
    "tcp.flags.fin": "flag 0x001", "tcp.flags.syn": "flag 0x002", "tcp.flags.reset": "flag 0x004",
    "tcp.flags.push": "flag 0x008", "tcp.flags.ack": "flag 0x010", "tcp.flags.urg": "flag 0x020",
    "tcp.flags.ece": "flag 0x040", "tcp.flags.cwr": "flag 0x080", "tcp.flags.ae": "flag 0x100",
    "mptcp.stream": "connection",
    "mptcp.dsn": "dsn", "mptcp.dss.dsn": "dss dsn", "mptcp.ack": "data_ack",
    _OPTION + "subtype": "subtype", _OPTION + "version": "version",
    _OPTION + "addrid": "address_id", _OPTION + "recvtok": "token",
    _OPTION + "sendkey": "sender_key", _OPTION + "recvkey": "receiver_key",
    _OPTION + "sendrand": "nonce", _OPTION + "rawdataseqno": "raw dsn",
    _OPTION + "rawdataack": "raw data_ack", _OPTION + "subflowseqno": "raw ssn",
    _OPTION + "datalvllen": "dlen", _OPTION + "datafin.flag": "data_fin flag",
    _OPTION + "backup.flag": "backup flag", _OPTION + "rst_reason": "rst_reason",
    _OPTION + "echo": "echo", _OPTION + "port": "announced_port",
}  # fmt: skip
"""Wireshark's names, and what they are called in ``Columns.values``."""
_INSTEAD: Final = {
    "tcp.analysis.retransmission": "retransmission",
    "tcp.analysis.fast_retransmission": "retransmission",
    "tcp.analysis.out_of_order": "out_of_order",
    "tcp.analysis.duplicate_ack": "duplicate_ack",
    "tcp.analysis.bytes_in_flight": "in_flight",
    "tcp.analysis.ack_rtt": "rtt",
}
"""What Wireshark judges in a way of its own, and our field for the same."""
_WORDS: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_TRUTH: Final = {"true": 1, "false": 0}

Values = tuple[Ints, NDArray[Any]]
"""Which packets have a value, and the values; a packet may occur more than once."""
Network = tuple[bytes, int]
"""An address, and how many of its bits count."""


class FilterError(Exception):
    """A filter that cannot be read; the text says where, and what was expected."""

    exit_status = 2


class Columns(Protocol):
    """A batch of packets as a filter sees it."""

    def __len__(self) -> int:
        """Return the number of packets."""

    def values(self, name: str) -> Values:
        """Return the values of a field but ``FLAGS``, or of what a name in ``WIRESHARK`` means."""

    def flag(self, name: str) -> Mask:
        """Return one of ``FLAGS``."""

    def within(self, codes: NDArray[Any], network: Network) -> Mask:
        """Tell which of the addresses that ``values`` returned are in a network."""


Test = Callable[[Columns], Mask]

_TOKENS: Final = re.compile(
    r"\s*(?:(\.\.)|([0-9a-fA-F]*:[0-9a-fA-F:.]+(?:/\d+)?)|(\d+(?:\.\d+){3}(?:/\d+)?)"
    r"|(0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?!\.\d))"
    r"|([A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_][A-Za-z_0-9]*)*)"
    r"|(==|!=|<=|>=|&&|\|\||\^\^|[<>!(){},&]))"
)
_MAX_DEPTH: Final = 100


def parse_filter(text: str) -> Test:
    """Return the test that an expression describes; raises ``FilterError``."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, int]] = []
        at = 0
        while text[at:].strip():
            match = _TOKENS.match(text, at)
            if match is None:
                rest = text[at:].strip()
                hint = " (equality is ==)" if rest.startswith("=") else ""
                raise FilterError(f"--filter {text!r}: cannot read {rest!r}{hint}")
            self.tokens.append((match.group().strip(), match.start()))
            at = match.end()
        self.at = 0
        self.depth = 0

    def parse(self) -> Test:
        if not self.tokens:
            raise FilterError("--filter is empty; an example: subtype == join and subflow == 2")
        test = self._or()
        if self.at < len(self.tokens):
            raise self._error("'and', 'or' or the end")
        return test

    def _peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self.at += 1
        return token

    def _error(self, expected: str, names: Iterable[str] = ()) -> FilterError:
        found = repr(self._peek()) if self._peek() else "the end"
        close = get_close_matches(self._peek().lower(), names, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return FilterError(f"--filter {self.text!r}: found {found}{hint}, expected {expected}")

    def _or(self) -> Test:
        return self._joined(("or", "||"), self._exclusive_or, np.logical_or)

    def _exclusive_or(self) -> Test:
        return self._joined(("xor", "^^"), self._and, np.logical_xor)

    def _and(self) -> Test:
        return self._joined(("and", "&&"), self._not, np.logical_and)

    def _joined(self, words: tuple[str, ...], part: Callable[[], Test], how: np.ufunc) -> Test:
        tests = [part()]
        while self._peek() in words:
            self._next()
            tests.append(part())
        return tests[0] if len(tests) == 1 else lambda c: how.reduce([test(c) for test in tests])

    def _not(self) -> Test:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise FilterError(f"--filter {self.text!r}: nested more than {_MAX_DEPTH} deep")
        try:
            if self._peek() in ("not", "!"):
                self._next()
                inner = self._not()
                return lambda c: ~inner(c)
            if self._peek() == "(":
                self._next()
                test = self._or()
                if self._next() != ")":
                    self.at -= 1
                    raise self._error("')'")
                return test
            return self._comparison()
        finally:
            self.depth -= 1

    def _comparison(self) -> Test:
        name = self._peek()
        if name in FLAGS:
            self._next()
            return lambda c: c.flag(name)
        if name not in FIELDS and name not in WIRESHARK:
            instead = _INSTEAD.get(name)
            hint = f"{instead}, which we judge in our own way; or " if instead else ""
            names = ", ".join(FIELDS)
            raise self._error(
                f"{hint}a field ({names}, or one of Wireshark's)", (*FIELDS, *WIRESHARK)
            )
        self._next()
        operator = _WORDS.get(self._peek(), self._peek())
        if operator == "in":
            self._next()
            return self._among(name)
        if operator not in ("==", "!=", "<", "<=", ">", ">=", "&"):
            if name in WIRESHARK:  # alone: whether the packet has it
                kind = WIRESHARK[name]
                return lambda c: _mark(c, c.values(kind)[0])
            raise self._error(f"a comparison after {name}")
        self._next()
        wanted = self._value(name)
        if isinstance(wanted, tuple) and operator not in ("==", "!="):
            raise self._error(f"== or != between {name} and an address")
        return _compare(WIRESHARK.get(name, name), operator, wanted)

    def _among(self, name: str) -> Test:
        kind = WIRESHARK.get(name, name)
        if self._peek() != "{":
            return self._value_or_range(name, kind, needs_range=True)
        self._next()
        tests = [self._value_or_range(name, kind)]
        while self._peek() not in ("}", ""):
            if self._peek() == ",":
                self._next()
            tests.append(self._value_or_range(name, kind))
        if self._next() != "}":
            self.at -= 1
            raise self._error("'}'")
        return lambda c: np.logical_or.reduce([test(c) for test in tests])

    def _value_or_range(self, name: str, kind: str, needs_range: bool = False) -> Test:
        low = self._value(name)
        if self._peek() != ".." or isinstance(low, tuple):
            if needs_range and isinstance(low, tuple):
                raise self._error("a list of addresses as in {10.0.0.1, 10.0.1.0/24}")
            if needs_range:
                raise self._error("'..' as in 1..5000, or a list as in {1, 2}")
            return _compare(kind, "==", low)
        self._next()
        high = self._value(name)
        assert not isinstance(high, tuple)
        return lambda c: _within(c, kind, low, high)

    def _value(self, name: str) -> float | Network:
        token = self._peek()
        kind = WIRESHARK.get(name, name)
        if kind == "subtype" and token.lower() in SUBTYPES:
            self._next()
            return SUBTYPES[token.lower()]
        if kind.split()[-1] in ADDRESSES:
            return self._network(name, kind)
        if token.lower() in _TRUTH and name in WIRESHARK:
            self._next()
            return _TRUTH[token.lower()]
        try:
            if len(token) > 40:  # no field has as many digits
                raise ValueError
            value = int(token, 16) if token.lower().startswith("0x") else float(token)
        except ValueError:
            if kind != "subtype":
                raise self._error(f"a number for {name}") from None
            raise self._error("a number or one of " + ", ".join(SUBTYPES), SUBTYPES) from None
        self._next()
        return int(token, 0) if re.fullmatch(r"0x[0-9a-fA-F]+|[1-9]\d*|0", token) else value

    def _network(self, name: str, kind: str) -> Network:
        try:
            interface = ipaddress.ip_interface(self._peek())
        except ValueError:
            raise self._error(f"an IP address or network for {name}") from None
        if not kind.startswith(f"ipv{interface.version}") and kind not in ADDRESSES:
            raise self._error(f"an address of IPv{kind[3]} for {name}")
        self._next()
        return interface.ip.packed, interface.network.prefixlen


_OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def _mark(columns: Columns, rows: Ints) -> Mask:
    mask = np.zeros(len(columns), dtype=bool)
    mask[rows] = True
    return mask


def _compare(name: str, operator: str, wanted: float | Network) -> Test:
    def equal(columns: Columns, values: NDArray[Any]) -> Mask:
        if isinstance(wanted, tuple):
            return columns.within(values, wanted)
        return np.asarray(values == wanted)

    def test(columns: Columns) -> Mask:
        rows, values = columns.values(name)
        if operator == "==":
            return _mark(columns, rows[equal(columns, values)])
        if operator == "!=":  # all of them differ
            return _mark(columns, rows) & ~_mark(columns, rows[equal(columns, values)])
        if operator == "&":
            bits = np.uint64(int(wanted)) if not isinstance(wanted, tuple) else np.uint64(0)
            return _mark(columns, rows[values.astype(np.uint64) & bits != 0])
        return _mark(columns, rows[_OPERATIONS[operator](values, wanted)])

    return test


def _within(columns: Columns, name: str, low: float, high: float) -> Mask:
    rows, values = columns.values(name)
    return _mark(columns, rows[(values >= low) & (values <= high)])

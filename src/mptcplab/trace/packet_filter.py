"""Filter expressions over packets: ``subtype == join and (subflow == 2 or dsn in 1..5000)``.

Fields are the protocol's terms (``FIELDS`` lists them); a flag such as ``syn`` or
``retransmission`` stands alone.  Comparisons are ``== != < <= > >=`` and ``in`` with a range
``low..high`` (both ends included) or a list ``{a, b}``; they combine with ``and``, ``or``, ``not``
(or ``&& || !``) and parentheses.  A field that a packet does not have matches nothing.
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
FIELDS: Final = (*NUMBERS, *FLAGS, "subtype", "src", "dst", "addr")

Values = tuple[Ints, NDArray[Any]]
"""Which packets have a value, and the values; a packet may occur more than once."""


class FilterError(Exception):
    """A filter that cannot be read; the text says where, and what was expected."""

    exit_status = 2


class Columns(Protocol):
    """A batch of packets as a filter sees it."""

    def __len__(self) -> int:
        """Return the number of packets."""

    def values(self, name: str) -> Values:
        """Return the values of one of ``NUMBERS``, ``subtype``, ``src``, ``dst`` or ``addr``."""

    def flag(self, name: str) -> Mask:
        """Return one of ``FLAGS``."""

    def address(self, text: str) -> int:
        """Return the number that stands for an address, -1 for one not in the capture."""


Test = Callable[[Columns], Mask]

_TOKENS: Final = re.compile(
    r"\s*(?:(\.\.)|([0-9a-fA-F]*:[0-9a-fA-F:.]+)|(\d+(?:\.\d+){3})|(0x[0-9a-fA-F]+|\d+(?:\.\d+)?"
    r"(?!\.\d))|([A-Za-z_][A-Za-z_0-9]*)|(==|!=|<=|>=|&&|\|\||[<>!(){},]))"
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
        tests = [self._and()]
        while self._peek() in ("or", "||"):
            self._next()
            tests.append(self._and())
        return (
            tests[0] if len(tests) == 1 else lambda c: np.logical_or.reduce([t(c) for t in tests])
        )

    def _and(self) -> Test:
        tests = [self._not()]
        while self._peek() in ("and", "&&"):
            self._next()
            tests.append(self._not())
        return (
            tests[0] if len(tests) == 1 else lambda c: np.logical_and.reduce([t(c) for t in tests])
        )

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
        if name not in FIELDS:
            raise self._error("a field (" + ", ".join(FIELDS) + ")", FIELDS)
        self._next()
        if name in FLAGS:
            return lambda c: c.flag(name)
        operator = self._peek()
        if operator == "in":
            self._next()
            return self._among(name)
        if operator not in ("==", "!=", "<", "<=", ">", ">="):
            raise self._error(f"a comparison after {name}")
        self._next()
        wanted = self._value(name)
        if operator == "!=":
            equal = _compare(name, "==", wanted)
            return lambda c: ~equal(c)
        return _compare(name, operator, wanted)

    def _among(self, name: str) -> Test:
        if self._peek() == "{":
            self._next()
            tests = [_compare(name, "==", self._value(name))]
            while self._peek() == ",":
                self._next()
                tests.append(_compare(name, "==", self._value(name)))
            if self._next() != "}":
                self.at -= 1
                raise self._error("'}'")
            return lambda c: np.logical_or.reduce([test(c) for test in tests])
        low = self._value(name)
        if self._peek() != "..":
            raise self._error("'..' as in 1..5000, or a list as in {1, 2}")
        self._next()
        high = self._value(name)
        return lambda c: _within(c, name, low, high)

    def _value(self, name: str) -> float | str:
        token = self._peek()
        if name == "subtype" and token.lower() in SUBTYPES:
            self._next()
            return SUBTYPES[token.lower()]
        if name in ("src", "dst", "addr"):
            try:
                ipaddress.ip_address(token)
            except ValueError:
                raise self._error(f"an IP address for {name}") from None
            self._next()
            return token
        try:
            if len(token) > 40:  # no field has as many digits
                raise ValueError
            value = int(token, 16) if token.lower().startswith("0x") else float(token)
        except ValueError:
            if name != "subtype":
                raise self._error(f"a number for {name}") from None
            raise self._error("a number or one of " + ", ".join(SUBTYPES), SUBTYPES) from None
        self._next()
        return int(token, 0) if re.fullmatch(r"0x[0-9a-fA-F]+|[1-9]\d*|0", token) else value


_OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": np.equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def _wanted(columns: Columns, value: float | str) -> float:
    return columns.address(value) if isinstance(value, str) else value


def _mark(columns: Columns, rows: Ints) -> Mask:
    mask = np.zeros(len(columns), dtype=bool)
    mask[rows] = True
    return mask


def _compare(name: str, operator: str, value: float | str) -> Test:
    operation = _OPERATIONS[operator]

    def test(columns: Columns) -> Mask:
        rows, values = columns.values(name)
        return _mark(columns, rows[operation(values, _wanted(columns, value))])

    return test


def _within(columns: Columns, name: str, low: float | str, high: float | str) -> Mask:
    rows, values = columns.values(name)
    inside = (values >= _wanted(columns, low)) & (values <= _wanted(columns, high))
    return _mark(columns, rows[inside])

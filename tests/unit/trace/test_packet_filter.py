"""Filter expressions: what parses, what does not, and what it says then."""

from __future__ import annotations

import pytest

from mptcplab.trace.packet_filter import FilterError, parse_filter


@pytest.mark.parametrize(
    "text",
    [
        "subtype == join",
        "subflow == 2",
        "dsn in 1..5000",
        "src == 10.0.0.1 and not (syn or fin)",
        "addr == fd00::1 || len > 0 && window <= 0xffff",
        "subtype in {join, add_addr, 7}",
        "time in 1.5..2.5",
        "!retransmission",
    ],
)
def test_expressions_that_parse(text: str) -> None:
    parse_filter(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("subtype = join", "equality is =="),
        ("subtype == jion", r"did you mean 'join'\?.*expected a number or one of"),
        ("subflw == 1", "did you mean 'subflow'"),
        ("retransmision", "did you mean 'retransmission'"),
        ("nonsense == 1", "expected a field"),
        ("dsn in 1", r"expected '..'"),
        ("(syn", r"expected '\)'"),
        ("syn fin", "expected 'and'"),
        ("src == 10.0.0", "cannot read"),
        ("src == 7", "expected an IP address"),
        ("len ==", "the end"),
        ("not " * 500 + "syn", "nested"),
        ("dsn == " + "9" * 5000, "expected a number for dsn"),
        ("dsn == 0x" + "f" * 5000, "expected a number for dsn"),
    ],
)
def test_expressions_that_do_not(text: str, complaint: str) -> None:
    with pytest.raises(FilterError, match=complaint):
        parse_filter(text)

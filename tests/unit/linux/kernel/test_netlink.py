"""The netlink codec: attributes, errors with the kernel's reason, errors sent between processes."""

from __future__ import annotations

import errno
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcplab.linux.kernel.namespaces import SysctlError
from mptcplab.linux.kernel.netlink import (
    NLMSG_ERROR,
    Message,
    NetlinkError,
    Request,
    attribute,
    attribute_list,
    error_of,
    messages,
    string,
)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_attributes_round_trip(wanted: list[tuple[int, bytes]]) -> None:
    assert attribute_list(b"".join(attribute(kind, value) for kind, value in wanted)) == wanted


@given(st.binary(max_size=80))
def test_bytes_of_any_kind_are_read_or_refused(data: bytes) -> None:
    for read in (attribute_list, lambda given: list(messages(given))):
        try:
            read(data)
        except ValueError as error:
            assert "netlink" in str(error)  # noqa: PT017 - either outcome is right


def test_a_request_is_framed_and_padded() -> None:
    encoded = Request(16, 0x400, b"abcde", "x").encode(7)
    assert encoded == struct.pack("=IHHII", 21, 16, 0x401, 7, 0) + b"abcde\0\0\0"
    (message,) = messages(encoded)
    assert message == Message(16, 0x401, 7, b"abcde")


def test_an_error_carries_what_was_asked_and_the_kernels_reason() -> None:
    echoed = struct.pack("=IHHII", 16, 36, 5, 1, 0)
    body = struct.pack("=i", -errno.ENOENT) + echoed + string(1, "Specified qdisc kind is unknown.")
    error = error_of(Message(NLMSG_ERROR, 0x300, 1, body), "delay with netem")
    assert error is not None
    expected = "delay with netem: No such file or directory (Specified qdisc kind is unknown.)"
    assert (error.errno, str(error)) == (errno.ENOENT, expected)
    assert error_of(Message(NLMSG_ERROR, 0x100, 1, struct.pack("=i", 0) + echoed), "x") is None


@pytest.mark.parametrize(
    "error",
    [
        NetlinkError(errno.EPERM, "make interface eth0", "not here"),
        SysctlError(errno.ENOENT, "net.mptcp.nothing", "1"),
    ],
)
def test_errors_read_the_same_in_another_process(error: OSError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.errno) == (type(error), str(error), error.errno)

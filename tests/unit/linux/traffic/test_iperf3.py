from __future__ import annotations

import json
from ipaddress import ip_interface

import pytest

from mptcplab.linux.traffic.flow import Connection
from mptcplab.linux.traffic.iperf3 import check_buffers, client_arguments, command, read_report
from mptcplab.linux.traffic.plan import FlowError
from mptcplab.network.topology import InterfaceEnd, Path
from mptcplab.scenario.model import Flow

PATH = Path(
    InterfaceEnd("a", "eth0"),
    ip_interface("10.0.0.1/24"),
    InterfaceEnd("b", "eth0"),
    ip_interface("10.0.0.2/24"),
    ("lan",),
)


def flow(**values: int | str) -> Flow:
    return Flow("main", "a", "b", application="iperf3", **values)  # type: ignore[arg-type]


def test_mptcp_needs_the_option_or_mptcpize() -> None:
    assert command(None) == ["iperf3"]
    assert command(True) == ["iperf3", "--mptcp"]
    assert command(False) == ["mptcpize", "run", "iperf3"]


def test_the_client_asks_for_half_of_what_the_socket_gets() -> None:
    arguments = client_arguments(
        flow(send_buffer_bytes=2000, receive_buffer_bytes=2000), PATH, 5001
    )
    assert arguments[arguments.index("-w") + 1] == "1000"
    assert arguments[arguments.index("-c") + 1] == "10.0.0.2"
    assert "-R" not in arguments
    assert "-R" in client_arguments(flow(client="b"), PATH, 5001)


def test_two_sizes_of_buffer_are_refused() -> None:
    check_buffers(flow())
    with pytest.raises(FlowError, match="one size for both"):
        check_buffers(flow(send_buffer_bytes=2000, receive_buffer_bytes=4000))


def report(**start: int) -> str:
    return json.dumps({"start": start, "end": {"sum_sent": {"bytes": 77}}})


def test_a_report_gives_the_bytes_and_complains_of_other_buffers() -> None:
    connection = Connection(flow(send_buffer_bytes=2000), 0, 5001, checked=False)
    read_report(report(sndbuf_actual=2000), connection)
    assert connection.bytes_sent == 77
    assert connection.errors == []
    assert connection.intact is None
    read_report(report(sndbuf_actual=1500), connection)
    assert "1500 bytes where 2000 were asked for" in connection.errors[0]


@pytest.mark.parametrize("text", ["", "iperf3: parameter error"])
def test_no_report_is_an_error(text: str) -> None:
    connection = Connection(flow(), 0, 5001, checked=False)
    read_report(text, connection)
    assert "gave no report" in connection.errors[0]


def test_a_rate_to_write_at_is_given_on() -> None:
    arguments = client_arguments(flow(write_rate_bps=5_000_000), PATH, 5001)
    assert arguments[arguments.index("-b") + 1] == "5000000"
    assert "-b" not in client_arguments(flow(), PATH, 5001)

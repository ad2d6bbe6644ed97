"""Two stacks, one stream: plain TCP, one subflow, several subflows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcplab.stack.events import CloseReason
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.testing import MILLISECOND_NS, Host, Pipe, Sink, config, pump
from mptcplab.wire.ip import parse_address

CONTENT = bytes(range(256)) * 4000
MINUTE_NS = 60_000 * MILLISECOND_NS


def two_hosts(mptcp: bool, mesh: bool) -> tuple[Pipe, Host, Host]:
    settings = config()
    settings.mptcp = mptcp
    client = replace(settings, path_manager=FullMesh) if mesh else settings
    pipe = Pipe()
    a = pipe.add_host("a", client, "10.0.1.1", "10.0.2.1")
    b = pipe.add_host("b", settings, "10.0.1.2", "10.0.2.2")
    for left in ("10.0.1.1", "10.0.2.1"):
        for right in ("10.0.1.2", "10.0.2.2"):
            pipe.link(left, right)
    b.stack.listen(80)
    return pipe, a, b


@pytest.mark.parametrize(("mptcp", "mesh"), [(False, False), (True, False), (True, True)])
def test_every_byte_arrives_and_both_sides_close(mptcp: bool, mesh: bool) -> None:
    pipe, a, b = two_hosts(mptcp, mesh)
    sink = Sink(b, content=True)
    connection = a.stack.connect(
        parse_address("10.0.1.1"), parse_address("10.0.1.2"), 80, pipe.now_ns
    )
    pump(a, connection, CONTENT)
    assert pipe.run(MINUTE_NS, lambda: connection.closed_for is not None)
    pipe.run(2 * MINUTE_NS)
    assert bytes(sink.content) == CONTENT
    assert sink.finished
    assert connection.closed_for is CloseReason.FINISHED
    assert sink.connection is not None
    assert sink.connection.closed_for is CloseReason.FINISHED
    assert connection.mptcp is mptcp
    assert not a.stack.connections
    assert not b.stack.connections
    established = a.kinds().count("subflow-established")
    assert established == (2 if mesh else 1)


def test_lengths_without_content_take_the_same_path() -> None:
    pipe, a, b = two_hosts(mptcp=True, mesh=True)
    sink = Sink(b)
    connection = a.stack.connect(
        parse_address("10.0.1.1"), parse_address("10.0.1.2"), 80, pipe.now_ns
    )
    pump(a, connection, 3_000_000)
    assert pipe.run(MINUTE_NS, lambda: connection.closed_for is not None)
    assert sink.received == 3_000_000

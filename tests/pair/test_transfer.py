"""Two stacks, one stream: plain TCP, one subflow, several subflows."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from tests.addresses import A1, A2, B1, B2
from tests.times import MINUTE

from mptcplab.stack.events import CloseReason
from mptcplab.stack.path_managers.endpoints import Endpoint, EndpointFlag, Endpoints, Limits
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.testing import Host, Pipe, Sink, config, pump

CONTENT = bytes(range(256)) * 4000


def two_hosts(mptcp: bool, mesh: bool) -> tuple[Pipe, Host, Host]:
    settings = config()
    settings.mptcp = mptcp
    client = replace(settings, path_manager=FullMesh) if mesh else settings
    pipe = Pipe()
    a = pipe.add_host("a", client, A1, A2)
    b = pipe.add_host("b", settings, B1, B2)
    for left in (A1, A2):
        for right in (B1, B2):
            pipe.link(left, right)
    b.stack.listen(80)
    return pipe, a, b


@pytest.mark.parametrize(("mptcp", "mesh"), [(False, False), (True, False), (True, True)])
def test_every_byte_arrives_and_both_sides_close(mptcp: bool, mesh: bool) -> None:
    pipe, a, b = two_hosts(mptcp, mesh)
    sink = Sink(b, content=True)
    connection = pipe.connect(a, A1, B1)
    pump(a, connection, CONTENT)
    assert pipe.run(MINUTE, lambda: connection.closed_for is not None)
    pipe.run(2 * MINUTE)
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
    connection = pipe.connect(a, A1, B1)
    pump(a, connection, 3_000_000)
    assert pipe.run(MINUTE, lambda: connection.closed_for is not None)
    assert sink.received == 3_000_000


def test_the_initial_subflow_does_not_count_against_the_limit_on_further_ones() -> None:
    endpoint = Endpoint(2, socket.inet_aton(A2), EndpointFlag.SUBFLOW)
    client = replace(config(), path_manager=lambda: Endpoints([endpoint], Limits(subflows=1)))
    pipe = Pipe()
    a = pipe.add_host("a", client, A1, A2)
    b = pipe.add_host("b", config(), B1)
    pipe.link(A1, B1)
    pipe.link(A2, B1)
    b.stack.listen(80)
    sink = Sink(b)
    connection = pipe.connect(a, A1, B1)
    pump(a, connection, 1_000_000)
    assert pipe.run(MINUTE, lambda: sink.received == 1_000_000)
    assert a.kinds().count("subflow-established") == 2

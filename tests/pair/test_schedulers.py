"""Every packet scheduler between two stacks over links with a rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bench.equilibria.hosts import PORT, Laboratory
from bench.equilibria.paths import MS, SECOND, bulk_config, client_address, server_address

from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.wire import CallbackWire
from mptcplab.stack import events
from mptcplab.stack.congestion.lia import Lia
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.testing import backlog_bytes, flights, subflow_rows

CONTENT = bytes(range(251)) * 8000


class Transfer:
    """Two links of 10 Mb/s, round trips of 10 and 60 ms, and the content on its way."""

    def __init__(self, scheduler: str) -> None:
        self.laboratory = Laboratory(seed=1)
        config = bulk_config(Lia, scheduler=SCHEDULERS[scheduler], path_manager=FullMesh)
        self.client = self.laboratory.host(config)
        self.server = self.laboratory.host(config)
        self.wires: list[tuple[CallbackWire, CallbackWire]] = []
        for number, delay_ms in enumerate((5, 30)):
            link = ChannelParameters(
                rate_bps=10_000_000, delay_ns=delay_ms * MS, queue_bytes=40_000
            )
            pair = (self.laboratory.wire(link), self.laboratory.wire(link))
            self.wires.append(pair)
            self.client.stack.add_address(client_address(number), number + 1)
            self.client.sources[client_address(number)] = pair[0]
            self.server.wires[client_address(number)] = pair[1]
        self.server.stack.add_address(server_address(0), 1)
        self.server.stack.listen(PORT)
        self.received = bytearray()
        self.server.on_event = self._on_event
        self.connection: Connection = self.laboratory.connect(self.client, self.server, config)
        self.connection.write(CONTENT)
        self.connection.close()
        self.client.pump()

    def _on_event(self, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.DataReadable):
            self.received += connection.read()
        elif isinstance(event, events.PeerFinished):
            connection.close()

    def run(self, duration_ms: int, step_ms: int = 1) -> None:
        """Let time pass; after each step the windows must hold."""
        loop = self.laboratory.loop
        end_ns = loop.now_ns + duration_ms * MS
        while loop.now_ns < end_ns and self.connection.closed_for is None:
            loop.run(loop.now_ns + step_ms * MS)
            assert all(pipe <= limit for pipe, limit in flights(self.connection))

    def subflow_rows(self) -> list[dict[str, Any]]:
        """Return what the client's subflows do."""
        assert self.connection in self.client.stack.connections
        return subflow_rows(self.connection)

    def cut(self, number: int) -> None:
        """Cut a link, both ways, without telling anyone."""
        for wire in self.wires[number]:
            wire.configure(replace(wire.channel.parameters, up=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_byte_arrives_and_windows_hold(name: str) -> None:
    transfer = Transfer(name)
    transfer.run(60_000)
    assert transfer.connection.closed_for is not None
    assert bytes(transfer.received) == CONTENT
    # 2 MB at 10 Mb/s take 1.7 s; redundant sends all twice, the others share the work.
    took_s = transfer.laboratory.loop.now_ns / SECOND
    assert took_s < (2.5 if name == "redundant" else 1.6)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_both_links_carry_data(name: str) -> None:
    transfer = Transfer(name)
    transfer.run(700)
    sent = [row["bytes_sent"] - row["bytes_retransmitted"] for row in transfer.subflow_rows()]
    assert len(sent) == 2
    assert min(sent) > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("dies", [0, 1])
def test_a_link_that_dies_takes_nothing_with_it(name: str, dies: int) -> None:
    transfer = Transfer(name)
    transfer.run(400)
    assert 0 < len(transfer.received) < len(CONTENT)
    transfer.cut(dies)
    transfer.run(300)
    now_ns = transfer.laboratory.loop.now_ns
    transfer.client.stack.address_down(client_address(dies), now_ns)
    transfer.client.pump()
    transfer.run(60_000)
    assert transfer.connection.closed_for is not None
    assert bytes(transfer.received) == CONTENT


@pytest.mark.slow
def test_linux_default_lets_data_wait_and_moves_them_when_the_subflow_closes() -> None:
    transfer = Transfer("linux-default")
    transfer.run(200)
    waiting = backlog_bytes(transfer.connection)
    while max(waiting.values()) <= 10_000:
        transfer.run(1)
        waiting = backlog_bytes(transfer.connection)
    closing = max(waiting, key=waiting.__getitem__)
    transfer.connection.close_subflow(closing)
    transfer.client.pump()
    assert backlog_bytes(transfer.connection)[closing] == 0
    transfer.run(60_000)
    assert bytes(transfer.received) == CONTENT

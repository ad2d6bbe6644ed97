"""Goodput by scheduler, buffer and loss over two unequal paths, kept as a table.

The paths are those of Raiciu et al., "How Hard Can It Be?" (NSDI 2012), figure 4: WiFi with 8 Mb/s
and a round trip of 20 ms, 3G with 2 Mb/s and 150 ms. The table is no judgment. It shows every
change of what the stack or the link model does, as a diff; renew it with

    pytest tests/snapshots --renew
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.equilibria.hosts import ENDLESS_BYTES, PORT, Laboratory
from bench.equilibria.paths import OnePerPath, bulk_config, client_address, server_address
from tests.times import MS, SECOND

from mptcplab.network.parameters import ChannelParameters
from mptcplab.stack.congestion.lia import Lia
from mptcplab.stack.schedulers import SCHEDULERS

TABLE = Path(__file__).with_name("goodput.txt")
PATHS = ((8_000_000, 20, 80), (2_000_000, 150, 500))
"""Rate (bit/s), round trip (ms), and what the queue holds (ms)."""
BUFFERS_KIB = (32, 64, 128, 512)
LOSSES = (0.0, 0.001, 0.01)
DURATION_NS = 2 * SECOND


def goodput_bps(scheduler: str, buffer_bytes: int, loss: float) -> int:
    """Return what one connection delivers in its first seconds (bit/s)."""
    laboratory = Laboratory(seed=1)
    config = bulk_config(
        Lia,
        scheduler=SCHEDULERS[scheduler],
        path_manager=lambda: OnePerPath(len(PATHS)),
        send_buffer_bytes=buffer_bytes,
        receive_buffer_bytes=buffer_bytes,
    )
    client, server = laboratory.host(config), laboratory.host(config)
    for number, (rate_bps, rtt_ms, queue_ms) in enumerate(PATHS):
        back = ChannelParameters(delay_ns=rtt_ms * MS // 2)
        forth = ChannelParameters(
            rate_bps=rate_bps,
            delay_ns=rtt_ms * MS // 2,
            loss=loss,
            queue_bytes=rate_bps * queue_ms // 8000,
        )
        client.wires[server_address(number)] = laboratory.wire(forth)
        server.wires[client_address(number)] = laboratory.wire(back)
        client.stack.add_address(client_address(number), number + 1)
        server.stack.add_address(server_address(number), number + 1)
    server.stack.listen(PORT)
    connection = laboratory.connect(client, server, config)

    def fill(*_: object) -> None:
        connection.write_length(ENDLESS_BYTES)

    client.on_event = fill
    client.pump()
    laboratory.loop.run(DURATION_NS)
    return connection.data_acked_bytes() * 8 * SECOND // DURATION_NS


def table() -> str:
    """Return the table as text: kb/s, one block for each loss."""
    lines = [
        f"Goodput in the first {DURATION_NS // SECOND} s, kb/s, over "
        + " and ".join(f"{rate // 10**6} Mb/s, {rtt} ms" for rate, rtt, _ in PATHS)
        + "; LIA.",
        "Columns: send and receive buffer.",
    ]
    for loss in LOSSES:
        lines += ["", f"loss {loss:<14.1%}" + "".join(f"{size:>6} KiB" for size in BUFFERS_KIB)]
        for scheduler in sorted(SCHEDULERS):
            found = (goodput_bps(scheduler, size * 1024, loss) for size in BUFFERS_KIB)
            lines.append(f"  {scheduler:<17}" + "".join(f"{bps / 1000:>10.0f}" for bps in found))
    return "\n".join(lines) + "\n"


@pytest.mark.slow
def test_goodput_is_as_it_was(pytestconfig: pytest.Config) -> None:
    found = table()
    if pytestconfig.getoption("--renew"):
        TABLE.write_text(found, encoding="utf-8")
    assert found == TABLE.read_text(encoding="utf-8")

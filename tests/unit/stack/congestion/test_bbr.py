"""BBR on a link of the model, and its parts alone."""

from __future__ import annotations

import pytest
from bench.equilibria.hosts import ENDLESS_BYTES, PORT, Host, Laboratory
from tests.times import MS, SECOND

from mptcplab.network.parameters import ChannelParameters
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion.base import CongestionControl
from mptcplab.stack.congestion.bbr import (
    DRAIN,
    PROBE_BW,
    PROBE_RTT,
    STARTUP,
    Bandwidth,
    Bbr,
    Policer,
)
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.congestion.rate_sample import RateSample
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers import InitialOnly
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt

CLIENT, SERVER = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
RATE_BPS = 20_000_000
RTT_NS = 40 * MS
PRODUCT_BYTES = RATE_BPS * RTT_NS // (8 * SECOND)


def sending(
    kind: type[CongestionControl], queue_products: float = 4.0, loss: float = 0.0
) -> tuple[Laboratory, Connection]:
    """Return a connection with endless data over a link of 20 Mb/s and 40 ms."""
    laboratory = Laboratory(seed=5)
    config = StackConfig(kind, LowestRtt, InitialOnly)
    config.mptcp = False
    client, server = laboratory.host(config), laboratory.host(config)
    queue_bytes = int(PRODUCT_BYTES * queue_products)
    forth = ChannelParameters(RATE_BPS, RTT_NS // 2, queue_bytes=queue_bytes, loss=loss)
    _join(laboratory, client, server, forth)
    connection = laboratory.connect(client, server, config)

    def fill(*_: object) -> None:
        connection.write_length(ENDLESS_BYTES)

    client.on_event = fill
    client.pump()
    return laboratory, connection


def _join(laboratory: Laboratory, client: Host, server: Host, forth: ChannelParameters) -> None:
    client.wires[SERVER] = laboratory.wire(forth)
    server.wires[CLIENT] = laboratory.wire(ChannelParameters(delay_ns=RTT_NS // 2))
    client.stack.add_address(CLIENT, 1)
    server.stack.add_address(SERVER, 1)
    server.stack.listen(PORT)


def bbr_of(connection: Connection) -> Bbr:
    control = connection.subflows[0].tcp.sender.congestion
    assert isinstance(control, Bbr)
    return control


def test_startup_drains_and_then_paces_at_the_bandwidth_with_a_short_queue() -> None:
    laboratory, connection = sending(Bbr)
    modes: list[int] = []
    while laboratory.loop.now_ns < 2 * SECOND:
        laboratory.loop.run(laboratory.loop.now_ns + 5 * MS)
        mode = bbr_of(connection).mode
        if not modes or modes[-1] != mode:
            modes.append(mode)
    assert modes == [STARTUP, DRAIN, PROBE_BW]
    before = connection.data_acked_bytes()
    sender = connection.subflows[0].tcp.sender
    round_trips = []
    while laboratory.loop.now_ns < 6 * SECOND:
        laboratory.loop.run(laboratory.loop.now_ns + 5 * MS)
        round_trips.append(sender.rtt.srtt_ns)
    rate_bps = (connection.data_acked_bytes() - before) * 8 / 4
    assert 0.93 * RATE_BPS < rate_bps < 0.97 * RATE_BPS  # headers take 4.4 %
    assert sum(round_trips) / len(round_trips) < 1.3 * RTT_NS
    assert bbr_of(connection).bandwidth() * 8 == pytest.approx(RATE_BPS * 1448 / 1514, rel=0.02)


def test_every_ten_seconds_the_flight_dips_to_four_segments_for_200_ms() -> None:
    laboratory, connection = sending(Bbr)
    dips = []
    while laboratory.loop.now_ns < 23 * SECOND:
        laboratory.loop.run(laboratory.loop.now_ns + 10 * MS)
        control = bbr_of(connection)
        if control.mode == PROBE_RTT:
            dips.append(laboratory.loop.now_ns)
            assert control.cwnd_bytes <= 4 * control.mss_bytes
    starts = [at for at, before in zip(dips, [0, *dips], strict=False) if at - before > SECOND]
    assert len(starts) == 2
    assert 0.2 <= (len(dips) / len(starts)) * 0.01 <= 0.35
    assert bbr_of(connection).mode == PROBE_BW


def test_random_losses_do_not_slow_it() -> None:
    """One packet in a hundred: Reno comes to 1.2 / sqrt(p) segments a round trip."""
    goodput = {}
    for kind in (Bbr, NewReno):
        laboratory, connection = sending(kind, loss=0.01)
        laboratory.loop.run(10 * SECOND)
        goodput[kind] = connection.data_acked_bytes() * 8 / 10
    assert goodput[Bbr] > 0.8 * RATE_BPS
    assert goodput[NewReno] < 0.3 * RATE_BPS


def test_the_bandwidth_is_the_largest_of_the_last_rounds() -> None:
    bandwidth = Bandwidth()
    bandwidth.take(100, 1)
    bandwidth.take(50, 2)
    bandwidth.take(60, 11)
    assert bandwidth.largest == 100
    bandwidth.take(10, 12)
    assert bandwidth.largest == 60
    bandwidth.take(5, 40)
    assert bandwidth.largest == 5


def test_two_lossy_intervals_of_one_rate_show_a_policer() -> None:
    policer = Policer()
    rate = RateSample()
    for number in range(1, 20):
        rate.total_delivered_bytes += 10_000
        rate.total_lost_bytes += 3_000
        rate.lost_bytes = 3_000
        policer.sample(rate, True, number * 100 * MS)
        if policer.found:
            break
    assert policer.found
    assert policer.rate == 100_000
    assert not policer.is_outdated(round_started=True)


def test_few_losses_show_no_policer() -> None:
    policer = Policer()
    rate = RateSample()
    for number in range(1, 60):
        rate.total_delivered_bytes += 10_000
        rate.total_lost_bytes += 1_000
        rate.lost_bytes = 1_000
        policer.sample(rate, True, number * 100 * MS)
    assert not policer.found

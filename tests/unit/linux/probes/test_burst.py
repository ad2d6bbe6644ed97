"""How a link is flooded: in bursts that its queue takes, for as long as several packets take."""

import pytest

from mptcplab.linux.probes.burst import median_rate, plan_flood
from mptcplab.network.topology import Channel, Queue


@pytest.mark.parametrize(
    ("queue", "room_bytes"),
    [
        (Queue(limit_bytes=151_400), 151_400),
        (Queue(limit_bytes=12_500), 12_500),
        (Queue(limit_packets=20), 20 * 1514),
    ],
)
def test_a_burst_leaves_most_of_the_queue_free(queue: Queue, room_bytes: int) -> None:
    flood = plan_flood(Channel(rate_bps=1_000_000_000, queue=queue), 1500, 4)
    assert flood.payload == 1472
    assert flood.segments * 1514 <= room_bytes / 4
    assert flood.segments * 1514 > room_bytes / 8


@pytest.mark.parametrize("rate_bps", [10_000, 64_000, 100_000, 256_000])
@pytest.mark.parametrize("version", [4, 6])
def test_a_slow_link_is_measured_over_several_packets(rate_bps: int, version: int) -> None:
    flood = plan_flood(Channel(rate_bps=rate_bps), 1500, version)
    packet_ns = flood.frame_bytes * 8e9 / rate_bps
    assert flood.measure_ns >= 16 * packet_ns
    assert flood.settle_ns >= 4 * packet_ns
    assert flood.length_ns < 10_000_000_000


def test_a_packet_is_charged_its_overhead() -> None:
    flood = plan_flood(Channel(rate_bps=100_000_000, overhead_bytes=24), 1500, 4)
    assert flood.frame_bytes == 1514 + 24


def test_a_stall_and_what_it_piled_up_do_not_count() -> None:
    steady = [(at_ms * 1_000_000, 1000) for at_ms in range(101)]
    stalled = [
        (92_000_000 if 80_000_000 < at_ns < 92_000_000 else at_ns, size) for at_ns, size in steady
    ]
    expected = pytest.approx(1000 / 1_000_000)
    assert median_rate(steady, 10_000_000) == expected
    assert median_rate(stalled, 10_000_000) == expected
    assert median_rate(steady[:4], 10_000_000) == expected


def test_nothing_that_arrives_is_no_rate() -> None:
    assert median_rate([], 1) == median_rate([(5, 1000)], 1) == 0.0

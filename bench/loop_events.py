"""How many timers and link items a second the loop and the link model handle.

Prints one line per case: the median rate of several rounds, in thousands a second. The same
script measures the interpreted and the mypyc-compiled build; it says which one it saw.

    python bench/loop_events.py [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from random import Random
from statistics import median
from time import perf_counter

from mptcplab.loop import Timer, VirtualLoop, timers
from mptcplab.network.drop_tail import DropTailChannel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.wire import CallbackWire

ITEMS = 50_000
FRAME_BYTES = 1514
TRAIN_PACKETS = 44


class Ticker:
    """Sets its timer again whenever it expires."""

    def __init__(self, loop: VirtualLoop, period_ns: int) -> None:
        self.loop = loop
        self.period_ns = period_ns
        self.timer: Timer = loop.call_at(period_ns, self.tick)

    def tick(self) -> None:
        """Set the timer again."""
        self.timer.set(self.loop.now_ns + self.period_ns)


def expiring_timers() -> int:
    """A hundred timers that expire periodically."""
    loop = VirtualLoop()
    for n in range(100):
        Ticker(loop, 1000 + n)
    loop.run(ITEMS * 10)
    return loop.events


def moving_timer() -> int:
    """A retransmission timer: moved later by every event, hardly ever expiring."""
    loop = VirtualLoop()
    timer = loop.call_at(200_000, lambda: None)

    def acknowledgement() -> None:
        timer.set(loop.now_ns + 200_000)
        clock.set(loop.now_ns + 1000)

    clock = loop.call_at(1000, acknowledgement)
    loop.run(ITEMS * 1000)
    return loop.events


def trains(parameters: ChannelParameters, packets: int) -> int:
    """Trains through a link at 90 % of its rate."""
    loop = VirtualLoop()
    delivered = [0]

    def deliver(_: object) -> None:
        delivered[0] += 1

    wire = CallbackWire(loop, DropTailChannel(parameters, Random(1)), deliver)
    rate_bps = parameters.rate_bps or 10_000_000_000
    gap_ns = packets * FRAME_BYTES * 8 * 10**9 * 10 // (rate_bps * 9)
    offered = 0

    def offer() -> None:
        nonlocal offered
        offered += 1
        wire.offer(None, packets, FRAME_BYTES, FRAME_BYTES)
        if offered < ITEMS // 5:
            source.set(loop.now_ns + gap_ns)

    source = loop.call_at(gap_ns, offer)
    loop.run()
    return delivered[0]


CASES: dict[str, Callable[[], int]] = {
    "timers that expire": expiring_timers,
    "timers that move": moving_timer,
    "packets, no rate": lambda: trains(ChannelParameters(delay_ns=1_000_000), 1),
    "packets, 1 Gb/s": lambda: trains(ChannelParameters(1_000_000_000, 1_000_000), 1),
    "trains, 10 Gb/s": lambda: trains(ChannelParameters(10_000_000_000, 1_000_000), TRAIN_PACKETS),
    "pieces, 1 Gb/s": lambda: trains(ChannelParameters(1_000_000_000, 1_000_000), TRAIN_PACKETS),
    "pieces, 1 Gb/s, 1 % loss": lambda: trains(
        ChannelParameters(1_000_000_000, 1_000_000, loss=0.01), TRAIN_PACKETS
    ),
}


def main() -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    build = "interpreted" if timers.__file__.endswith(".py") else "compiled"
    for name, case in CASES.items():
        rates = []
        for _ in range(rounds):
            start = perf_counter()
            count = case()
            rates.append(count / (perf_counter() - start))
        print(f"{name:28} {median(rates) / 1000:9.0f} k/s  ({build})")


if __name__ == "__main__":
    main()

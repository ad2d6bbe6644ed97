from __future__ import annotations

from tests.times import MS

from mptcplab.loop import VirtualLoop
from mptcplab.network.return_watch import ReturnWatch

RATE_BPS = 100_000_000


class Wire:
    """A link that starts to carry its full rate at a given time."""

    def __init__(self, loop: VirtualLoop, from_ns: int) -> None:
        self.loop = loop
        self.from_ns = from_ns

    def sent_bytes(self, link: str) -> int:
        return max(0, self.loop.now_ns - self.from_ns) * RATE_BPS // 8_000_000_000


def test_the_time_from_up_to_data_is_found_within_one_look() -> None:
    loop = VirtualLoop()
    wire = Wire(loop, 500 * MS)
    heard: list[tuple[str, int, int]] = []
    watch = ReturnWatch(loop, wire.sent_bytes, lambda *each: heard.append(each))
    loop.call_at(100 * MS, lambda: watch.came_up("lan1", RATE_BPS))
    loop.run(2000 * MS)
    [(link, up_ns, since_ns)] = heard
    assert (link, up_ns) == ("lan1", 100 * MS)
    assert abs(since_ns - 500 * MS) <= 20 * MS
    assert watch.waiting == {}


def test_a_link_that_goes_down_again_is_forgotten() -> None:
    loop = VirtualLoop()
    heard: list[object] = []
    watch = ReturnWatch(loop, Wire(loop, 500 * MS).sent_bytes, lambda *each: heard.append(each))
    watch.came_up("lan1", RATE_BPS)
    loop.call_at(300 * MS, lambda: watch.went_down("lan1"))
    loop.run(2000 * MS)
    assert heard == []


def test_keepalives_and_echoes_do_not_count_as_data() -> None:
    loop = VirtualLoop()
    heard: list[object] = []
    watch = ReturnWatch(loop, lambda _: loop.now_ns // MS * 10, lambda *each: heard.append(each))
    watch.came_up("lan1", RATE_BPS)  # 80 kb/s
    loop.run(1000 * MS)
    assert heard == []
    assert watch.waiting == {"lan1": 0}

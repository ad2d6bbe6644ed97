"""What paths carry together, and when a link is full, of the rows of a run's links."""

from __future__ import annotations

from typing import Any

import pytest

from mptcplab.limits.evidence import LinkUse, Path

SECOND = 1_000_000_000
MBPS = 1_000_000


class Rows:
    """A run that has rows of links alone."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        names = sorted({row["link"] for row in rows})
        links = [{"name": name, "mtu": 1500, "forward": {}, "backward": {}} for name in names]
        self.scenario = {"topology": {"links": links}}
        self._rows = list(rows)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return them."""
        assert table == "links"
        return self._rows


def row(link: str, at_s: int = 1, **values: object) -> dict[str, Any]:
    """Return a second of a link."""
    return {
        "time_ns": at_s * SECOND,
        "interval_ns": SECOND,
        "link": link,
        "direction": "forward",
        "up": True,
        "rate_bps": 10 * MBPS,
        "tx_bytes": 0,
        "tx_packets": 0,
        "queue_bytes": 0,
        "drops_queue": 0,
        "drops_loss": 0,
        "drops_down": 0,
    } | values


def path(*links: str, nics: tuple[Any, ...] = ()) -> Path:
    """Return a path over links."""
    over = tuple((link, "forward") for link in links)
    return Path(f"from {links}", "to", over, None, 0, 0, nics)


def use(*rows: dict[str, Any]) -> LinkUse:
    """Return what is known of the links."""
    return LinkUse(Rows(*rows))  # type: ignore[arg-type]


SPAN = (0, 2 * SECOND)


def test_a_link_that_several_paths_share_carries_its_rate_once() -> None:
    links = use(row("a"), row("b"), row("shared", rate_bps=12 * MBPS))
    both = [path("a", "shared"), path("b", "shared")]
    assert links.together_bps(both, SPAN) == 12 * MBPS
    assert links.together_bps([path("a"), path("b")], SPAN) == 20 * MBPS
    assert links.together_bps([*both, path("b")], SPAN) == 17 * MBPS  # 5 over b, 7 and 5


def test_a_nic_that_several_paths_share_carries_its_rate_once() -> None:
    nic = (("host:eth0", 15 * MBPS, ()),)
    links = use(row("a"), row("b"))
    assert links.together_bps([path("a", nics=nic), path("b", nics=nic)], SPAN) == 15 * MBPS


def test_paths_that_are_never_up_together_do_not_add_up() -> None:
    first = [row("a"), row("b", up=False, rate_bps=30 * MBPS)]
    second = [row("a", 2, up=False), row("b", 2, rate_bps=30 * MBPS)]
    links = use(*first, *second)
    assert links.together_bps([path("a"), path("b")], SPAN) == 30 * MBPS
    assert links.together_bps([path("a"), path("b")], (0, SECOND)) == 10 * MBPS


def test_a_path_without_a_rate_has_no_end() -> None:
    links = use(row("a"), row("b", rate_bps=None))
    assert links.together_bps([path("a"), path("b")], SPAN) is None
    assert links.together_bps([path("a", "b")], SPAN) == 10 * MBPS


@pytest.mark.parametrize(
    ("queues", "full"), [((4000, 4000), True), ((0, 4000), False), ((4000, 0), False)]
)
def test_what_a_slow_link_is_sending_counts_where_packets_wait(
    queues: tuple[int, int], full: bool
) -> None:
    slow = {"rate_bps": 24_000, "tx_bytes": 1514, "tx_packets": 1}  # 3,000 bytes a second
    before = row("slow", 1, queue_bytes=queues[0], **slow)
    after = row("slow", 2, queue_bytes=queues[1], **slow)
    assert use(before, after).full(path("slow"), 2 * SECOND, SPAN) == ("slow" if full else "")


def test_losses_are_those_of_both_directions_of_the_path() -> None:
    links = use(
        row("a", tx_packets=3, drops_loss=3),
        row("a", direction="backward", tx_packets=2, drops_loss=0, drops_down=1),
        row("a", 3, tx_packets=9, drops_loss=9),
        row("b", tx_packets=5),
    )
    assert links.losses(path("a", "b"), SPAN) == [("a", 4, 6)]


def test_a_link_that_is_full_of_acknowledgments_is_named_with_its_direction() -> None:
    acks = row("a", direction="backward", rate_bps=20_000, tx_bytes=2_500, tx_packets=40)
    links = use(row("a", tx_bytes=100_000), acks)
    assert links.full(path("a"), SECOND, SPAN) == "a (backward)"

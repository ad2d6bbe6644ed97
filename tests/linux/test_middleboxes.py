"""The kernel's own MPTCP over middleboxes in the emulator: as over the simulated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.linux.two_links import TWO_LINKS, faults, finished, scenario

from mptcplab.linux.drivers.choose import choose_driver
from mptcplab.results.run import Run

BEHIND_NATS = """
duration = "2s"
interval = "500ms"
hosts = { phone = {}, tablet = {}, server = {} }
routers = { home = { middleboxes = "nat" }, cell = { middleboxes = "nat" }, isp = {} }
[links]
wifi = { between = ["phone", "home"], rate = "20Mb/s" }
wifi2 = { between = ["tablet", "home"], rate = "20Mb/s" }
lte = { between = ["phone", "cell"], rate = "10Mb/s" }
dsl = { between = ["home", "isp"], rate = "100Mb/s", rtt = "10ms" }
core = { between = ["isp", "cell"], rate = "100Mb/s", rtt = "30ms" }
last = { between = ["isp", "server"], rate = "1Gb/s" }
[flows]
main = { from = "server", to = "phone", client = "phone" }
other = { from = "server", to = "tablet", client = "tablet" }
"""


def boxed(link: str, *boxes: str, text: str = TWO_LINKS) -> str:
    """Return a scenario with boxes on one of the links."""
    return text.replace(
        f"[links.{link}]\n", f"[links.{link}]\nmiddleboxes = [{', '.join(boxes)}]\n"
    )


def flow(done: Run, name: str = "main") -> dict[str, Any]:
    (end,) = (each for each in done.metadata["flows"] if each["flow"] == name)
    return dict(end)


def moved(done: Run, host: str, counter: str) -> int:
    """Return by how much a counter of a host's MPTCP moved."""
    return sum(
        row["after"] - row["before"]
        for row in done.rows("counters")
        if (row["host"], row["counter"]) == (host, f"MPTcpExt{counter}")
    )


def counts(done: Run, name: str, way: str) -> dict[str, int]:
    (found,) = (each for each in done.metadata["middleboxes"] if each["name"] == name)
    return dict(found[way])


def test_a_link_with_boxes_is_carried_by_the_emulator(tmp_path: Path) -> None:
    told = scenario(tmp_path, boxed("one", '"firewall"'))
    try:
        drivers = {link.name: choose_driver(link, ()) for link in told.topology.links}
    except OSError as error:
        pytest.skip(str(error))
    assert drivers == {"one": "tap", "two": "kernel"}


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("segments", ["SYN", "SYN/ACK"])
def test_mp_capable_that_is_stripped_is_fallback(tmp_path: Path, segments: str) -> None:
    strip = f'{{ kind = "strip", options = "MP_CAPABLE", segments = "{segments}" }}'
    done = finished(tmp_path, boxed("one", strip))
    assert faults(done) == []
    assert (flow(done)["protocol"], flow(done)["intact"]) == ("fallback", True)
    assert moved(done, "alice", "MPCapableFallbackSYNACK") == 1
    assert any("fell back to TCP (it passes one:strip)" in note for note in done.metadata["notes"])


@pytest.mark.kernel
@pytest.mark.slow
def test_an_mp_join_that_is_dropped_costs_the_subflow(tmp_path: Path) -> None:
    drop = '{ kind = "drop", options = "MP_JOIN" }'
    done = finished(tmp_path, boxed("two", drop))
    assert faults(done) == []
    assert (flow(done)["protocol"], flow(done)["intact"]) == ("mptcp", True)
    assert moved(done, "alice", "MPJoinSynTx") >= 1
    assert moved(done, "bob", "MPJoinSynRx") == 0
    assert counts(done, "two:drop", "forward")["dropped"] >= 1


@pytest.mark.kernel
@pytest.mark.slow
def test_the_kernel_survives_benign_boxes(tmp_path: Path) -> None:
    boxes = (
        '"randomise-sequence"',
        '{ kind = "split", size = 700 }',
        '{ kind = "merge", size = 1300, hold = "200us" }',
    )
    done = finished(tmp_path, boxed("two", *boxes, text=boxed("one", *boxes)))
    assert (flow(done)["protocol"], flow(done)["intact"]) == ("mptcp", True)
    assert moved(done, "bob", "DSSCorruptionFallback") == moved(done, "bob", "MPRstTx") == 0
    for link in ("one", "two"):
        assert counts(done, f"{link}:split", "forward")["changed"] > 100
        assert counts(done, f"{link}:merge", "forward")["changed"] > 100


@pytest.mark.kernel
@pytest.mark.slow
def test_rewritten_payload_fails_the_kernels_checksum(tmp_path: Path) -> None:
    rewrite = '{ kind = "rewrite", after = "200kB", times = 1 }'
    text = f"tunables = {{ checksum = true }}\n{boxed('two', rewrite)}"
    done = finished(tmp_path, text)
    assert flow(done)["intact"] is True
    assert counts(done, "two:rewrite", "forward")["changed"] == 1
    assert moved(done, "bob", "DataCsumErr") == 1
    assert moved(done, "alice", "MPFailRx") == 1


@pytest.mark.kernel
@pytest.mark.slow
def test_several_hosts_of_the_kernel_behind_a_nat(tmp_path: Path) -> None:
    done = finished(tmp_path, BEHIND_NATS)
    for name in ("main", "other"):
        assert (flow(done, name)["protocol"], flow(done, name)["intact"]) == ("mptcp", True)
    assert moved(done, "phone", "MPJoinSynAckRx") == 1
    for box in ("home:nat", "cell:nat"):
        assert counts(done, box, "forward")["changed"] > 100
    links = {row["link"] for row in done.rows("subflows")}
    assert links == {"wifi", "wifi2", "lte"}, "the server's ends have their names too"


@pytest.mark.kernel
@pytest.mark.slow
def test_a_black_hole_that_the_timeline_switches(tmp_path: Path) -> None:
    hole = '{ kind = "blackhole", enabled = false }'
    timeline = (
        '\n[[timeline]]\nat = 1\nenable = "two:blackhole"\n'
        '\n[[timeline]]\nat = 1.5\ndisable = "two:blackhole"\n'
    )
    done = finished(tmp_path, boxed("two", hole) + timeline)
    assert flow(done)["intact"] is True
    assert counts(done, "two:blackhole", "forward")["dropped"] > 0
    switched = [row["event"] for row in done.rows("events") if "blackhole" in (row["detail"] or "")]
    assert switched == ["enable", "disable"]

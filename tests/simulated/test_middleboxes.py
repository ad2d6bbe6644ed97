"""Simulated middleboxes: what MPTCP makes of them (RFC 8684), and what the run says of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.simulated.testbed import run

TWO = """
duration = "2s"
hosts = ["phone", "server"]
[links]
wifi = { between = ["phone", "server"], rate = "20Mb/s", rtt = "10ms" }
lte = { between = ["phone", "server"], rate = "10Mb/s", rtt = "30ms" }
[flows]
main = { from = "phone", to = "server" }
"""
BEHIND_NATS = """
duration = "2s"
hosts = { phone = {}, tablet = {}, server = {} }
routers = { home = { middleboxes = "nat" }, cell = { middleboxes = "nat" }, isp = {} }
[links]
wifi = { between = ["phone", "home"], rate = "20Mb/s", rtt = "10ms" }
wifi2 = { between = ["tablet", "home"], rate = "20Mb/s", rtt = "10ms" }
lte = { between = ["phone", "cell"], rate = "10Mb/s", rtt = "30ms" }
dsl = { between = ["home", "isp"], rate = "100Mb/s" }
core = { between = ["isp", "cell"], rate = "100Mb/s" }
last = { between = ["isp", "server"], rate = "1Gb/s" }
[flows]
main = { from = "server", to = "phone", client = "phone" }
other = { from = "server", to = "tablet", client = "tablet" }
"""


def simulate(tmp_path: Path, text: str, *overrides: str) -> Run:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    return Run(run(load(str(file), overrides=overrides), folder, Silent()))


def with_boxes(link: str, *boxes: str) -> str:
    return f"links.{link}.middleboxes=[{', '.join(boxes)}]"


def flow(finished: Run, name: str = "main") -> dict[str, Any]:
    (end,) = (each for each in finished.metadata["flows"] if each["flow"] == name)
    return dict(end)


def counts(finished: Run, name: str, way: str) -> dict[str, int]:
    (found,) = (each for each in finished.metadata["middleboxes"] if each["name"] == name)
    return dict(found[way])


def is_sound(finished: Run) -> bool:
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    return bool(flow(finished)["intact"])


@pytest.mark.parametrize("segments", ["SYN", "SYN/ACK", "ACK"])
def test_mp_capable_stripped_from_any_of_the_three_is_fallback(
    tmp_path: Path, segments: str
) -> None:
    """RFC 8684 section 3.7; with the third packet, the data that repeat its option lose it too."""
    of = f'["{segments}", "data"]' if segments == "ACK" else f'"{segments}"'
    strip = f'{{ kind = "strip", options = "MP_CAPABLE", segments = {of} }}'
    finished = simulate(tmp_path, TWO, with_boxes("wifi", strip))
    assert is_sound(finished)
    assert flow(finished)["protocol"] == "fallback"
    assert flow(finished)["bytes"] > 3_000_000
    assert any("fell back to TCP (it passes wifi:strip)" in n for n in finished.metadata["notes"])


@pytest.mark.parametrize("segments", ["SYN", "SYN/ACK"])
def test_a_stripped_mp_join_costs_only_the_subflow(tmp_path: Path, segments: str) -> None:
    strip = f'{{ kind = "strip", options = "MP_JOIN", segments = "{segments}" }}'
    finished = simulate(tmp_path, TWO, with_boxes("lte", strip))
    assert is_sound(finished)
    assert flow(finished)["protocol"] == "mptcp"
    assert 3_000_000 < flow(finished)["bytes"] < 5_000_000
    way = "forward" if segments == "SYN" else "backward"
    assert counts(finished, "lte:strip", way)["stripped"] > 0


def test_dropped_joins_never_come_up_and_the_run_is_what_was_asked_for(tmp_path: Path) -> None:
    drop = '{ kind = "drop", options = "MP_JOIN" }'
    finished = simulate(tmp_path, TWO, with_boxes("lte", drop))
    assert is_sound(finished)
    assert counts(finished, "lte:drop", "forward")["dropped"] > 0
    assert any("no subflow came up on lte" in note for note in finished.metadata["notes"])


def test_a_box_that_strips_what_nobody_sends_is_said_to_have_done_nothing(tmp_path: Path) -> None:
    strip = '{ kind = "strip", options = "MP_FAIL" }'
    finished = simulate(tmp_path, TWO, with_boxes("wifi", strip))
    assert is_sound(finished)
    assert flow(finished)["protocol"] == "mptcp"
    (note,) = finished.metadata["notes"]
    assert "wifi:strip" in note
    assert "changed and dropped nothing" in note


def test_rewritten_payload_fails_the_checksum_and_is_sent_again(tmp_path: Path) -> None:
    """RFC 8684 section 3.7: with another subflow, MP_FAIL and RST; the bytes come otherwise."""
    rewrite = '{ kind = "rewrite", after = "200kB", times = 1 }'
    finished = simulate(tmp_path, TWO, with_boxes("lte", rewrite), "tunables.checksum=true")
    assert is_sound(finished)
    assert flow(finished)["protocol"] == "mptcp"
    assert counts(finished, "lte:rewrite", "forward")["changed"] == 1
    closed = [each for each in finished.rows("events") if each["event"] == "subflow-closed"]
    assert closed


def test_rewritten_payload_passes_unnoticed_without_the_checksum(tmp_path: Path) -> None:
    rewrite = '{ kind = "rewrite", after = "200kB", times = 1 }'
    finished = simulate(tmp_path, TWO, with_boxes("lte", rewrite))
    assert flow(finished)["intact"] is False
    assert flow(finished)["protocol"] == "mptcp"
    assert any(
        "bytes arrived in packets that were changed" in n for n in finished.metadata["notes"]
    )


def test_benign_boxes_leave_mptcp_alone(tmp_path: Path) -> None:
    plain = simulate(tmp_path, TWO)
    boxes = (
        '"randomise-sequence"',
        '{ kind = "split", size = 700 }',
        '{ kind = "merge", size = 1300, hold = "200us" }',
    )
    overrides = [with_boxes(link, *boxes) for link in ("wifi", "lte")]
    finished = simulate(tmp_path, TWO, *overrides)
    assert is_sound(finished)
    assert flow(finished)["protocol"] == "mptcp"
    assert flow(finished)["bytes"] > 0.85 * flow(plain)["bytes"]
    assert counts(finished, "wifi:split", "forward")["changed"] > 1000
    assert counts(finished, "wifi:merge", "forward")["changed"] > 1000


def test_a_firewall_and_randomised_numbers_cost_nothing(tmp_path: Path) -> None:
    plain = simulate(tmp_path, TWO)
    boxes = with_boxes("wifi", '"randomise-sequence"')
    finished = simulate(tmp_path, TWO, boxes)
    assert flow(finished)["bytes"] == flow(plain)["bytes"]
    walled = simulate(tmp_path, TWO, with_boxes("wifi", '"firewall"'))
    assert flow(walled)["bytes"] == flow(plain)["bytes"]


def test_hosts_behind_a_nat_share_its_address(tmp_path: Path) -> None:
    finished = simulate(tmp_path, BEHIND_NATS)
    assert is_sound(finished)
    assert flow(finished, "other")["intact"]
    assert flow(finished)["protocol"] == flow(finished, "other")["protocol"] == "mptcp"
    assert flow(finished)["bytes"] > 5_000_000
    links = {row["link"] for row in finished.rows("subflows") if row["host"] == "server"}
    assert links == {"wifi", "wifi2", "lte"}


def test_a_black_hole_in_the_timeline_stalls_one_path_for_a_while(tmp_path: Path) -> None:
    timeline = (
        '[[timeline]]\nat = 0.5\nenable = "wifi:blackhole"\n'
        '[[timeline]]\nat = 1\ndisable = "wifi:blackhole"\n'
    )
    hole = with_boxes("wifi", '{ kind = "blackhole", enabled = false }')
    finished = simulate(tmp_path, TWO + timeline, hole, 'interval="100ms"')
    assert is_sound(finished)
    assert counts(finished, "wifi:blackhole", "forward")["dropped"] > 0
    rows = [r for r in finished.rows("links") if (r["link"], r["direction"]) == ("wifi", "forward")]
    busy = {round(row["time_ns"] / 1e8): row["tx_bytes"] for row in rows}
    assert busy[5] > 100_000
    assert max(busy[7], busy[8], busy[9]) == 0, "the box stands before the queue"
    (on, off) = [e for e in finished.rows("events") if e["event"] in ("enable", "disable")]
    assert "wifi:blackhole" in on["detail"] + off["detail"]


def test_a_nat_that_forgets_its_mappings_breaks_the_subflow_and_the_other_goes_on(
    tmp_path: Path,
) -> None:
    """Switched off and on again: what comes in then belongs to nothing."""
    timeline = (
        '[[timeline]]\nat = 0.5\ndisable = "wifi:nat"\n'
        '[[timeline]]\nat = 0.6\nenable = "wifi:nat"\n'
    )
    finished = simulate(tmp_path, TWO + timeline, with_boxes("wifi", '"nat"'))
    assert flow(finished)["protocol"] == "mptcp"
    assert flow(finished)["bytes"] > 2_000_000


@pytest.mark.parametrize("trains", ["true", "false"])
def test_trains_and_packets_have_the_same_done_to_them(tmp_path: Path, trains: str) -> None:
    boxes = ('{ kind = "split", size = 700 }', '"randomise-sequence"')
    finished = simulate(tmp_path, TWO, with_boxes("wifi", *boxes), f"trains={trains}")
    assert is_sound(finished)
    made = counts(finished, "wifi:randomise-sequence", "forward")["seen"]
    came = counts(finished, "wifi:split", "forward")
    assert made >= came["seen"] + 2 * came["changed"] - came["seen"]


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    boxes = with_boxes("wifi", '"randomise-sequence"', '{ kind = "merge", size = 1300 }')
    runs = [simulate(tmp_path, TWO, boxes) for _ in range(2)]
    assert runs[0].rows("subflows") == runs[1].rows("subflows")
    assert runs[0].metadata["middleboxes"] == runs[1].metadata["middleboxes"]

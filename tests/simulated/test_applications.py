"""Applications in simulation, on links whose answers can be worked out."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulated.test_testbed import simulate

from mptcplab.report.comparison import measured
from mptcplab.report.latency import draw_latency, latency_checks
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise

ONE_LINK = """
duration = "2s"
start_jitter = 0
processing_jitter = 0
hosts = ["alice", "bob"]

[links.one]
between = ["alice", "bob"]
rate = "10Mb/s"
rtt = "20ms"

[flows.app]
from = "alice"
to = "bob"
protocol = "tcp"
"""
MS = 1_000_000
FRAME_NS = 1_514 * 8 * 100  # a full frame at 10 Mb/s


def took_ms(run: Run, table: str = "requests") -> list[float]:
    assert run.metadata["valid"], run.metadata["invalid_reasons"]
    return [(row["end_ns"] - row["start_ns"]) / MS for row in run.rows(table)]


def with_keys(**keys: str) -> str:
    return ONE_LINK + "".join(f"{key} = {value}\n" for key, value in keys.items())


@pytest.mark.parametrize(("protocol", "saved_ms"), [("tcp", 20), ("mptcp", 0)])
def test_fast_open_saves_a_round_trip_from_the_second_connection_on(
    tmp_path: Path, protocol: str, saved_ms: int
) -> None:
    """Not so with MPTCP, whose answers wait for the handshake, as Linux's do."""
    keys = {"application": '"request-response"', "persistent": "false", "count": "5"}
    text = with_keys(**keys, fast_open="true").replace('"tcp"', f'"{protocol}"')
    first, *others = took_ms(simulate(tmp_path, text))
    ordinary = took_ms(simulate(tmp_path, text, "flows.app.fast_open=false"))
    assert first == pytest.approx(ordinary[0], abs=0.1)
    assert others == pytest.approx([first - saved_ms] * 4, abs=0.2)


def test_fast_open_survives_boxes_that_strip_or_drop_it(tmp_path: Path) -> None:
    keys = {"application": '"request-response"', "persistent": "false", "count": "5"}
    text = with_keys(**keys, fast_open="true")
    ordinary = took_ms(simulate(tmp_path, text))[0]
    for kind, times in (("strip", [ordinary] * 5), ("drop", [ordinary + 1_000] * 2)):
        box = f'links.one.middleboxes=[{{ kind = "{kind}", options = ["UNKNOWN"] }}]'
        boxed = took_ms(simulate(tmp_path, text, box, "duration=6s"))
        assert boxed[: len(times)] == pytest.approx(times, abs=0.3)


def test_a_request_takes_a_round_trip_and_the_time_of_its_packets(tmp_path: Path) -> None:
    text = with_keys(application='"request-response"', response='"1KB"', think='"100ms"')
    first, *others = took_ms(simulate(tmp_path, text))
    # 100 and 1000 bytes of payload, with headers of 66 each, and 20 ms of delays
    expected = 20 + (166 + 1_066) * 8 / 10_000
    assert others == pytest.approx([expected] * len(others), rel=0.001)
    # the first waits for the handshake besides: SYN, SYN/ACK
    assert first == pytest.approx(expected + 20 + 2 * 74 * 8 / 10_000, rel=0.001)


def test_a_connection_for_each_request_costs_each_a_handshake(tmp_path: Path) -> None:
    text = with_keys(
        application='"request-response"', response='"1KB"', think='"100ms"', persistent="false"
    )
    times = took_ms(simulate(tmp_path, text))
    assert times == pytest.approx([times[0]] * len(times), rel=0.001)
    assert times[0] > 40


def test_a_message_takes_the_delay_and_the_time_of_its_packet(tmp_path: Path) -> None:
    text = with_keys(application='"paced"', rate='"100kb/s"', message='"1KB"')
    first, *others = took_ms(simulate(tmp_path, text), "messages")
    assert others == pytest.approx([10 + 1_066 * 8 / 10_000] * len(others), rel=0.001)
    assert first > 30  # its connection was opened first


UDP = ONE_LINK.replace('protocol = "tcp"\n', "")


def test_datagrams_take_the_delay_and_none_is_lost_on_an_idle_link(tmp_path: Path) -> None:
    text = UDP + 'application = "udp"\nrate = "1Mb/s"\nmessage = "1KB"\ncount = 250\n'
    run = simulate(tmp_path, text)
    # IPv4, UDP and Ethernet are 42 bytes
    assert took_ms(run, "messages") == pytest.approx([10 + 1_042 * 8 / 10_000] * 250, rel=0.001)
    assert summarise(run)["flows"][0]["messages"]["lost"] == 0


def test_datagrams_are_lost_where_links_lose_them(tmp_path: Path) -> None:
    text = UDP + 'application = "udp"\nrate = "1Mb/s"\nmessage = "1KB"\n'
    run = simulate(tmp_path, text.replace('"20ms"', '"20ms"\nloss = "20%"'))
    assert run.metadata["valid"], run.metadata["invalid_reasons"]
    assert summarise(run)["flows"][0]["messages"]["loss"] == pytest.approx(0.2, abs=0.07)


def test_datagrams_above_the_rate_fill_the_queue_and_are_lost(tmp_path: Path) -> None:
    text = UDP + 'application = "udp"\nrate = "20Mb/s"\nmessage = "1KB"\n'
    messages = summarise(simulate(tmp_path, text))["flows"][0]["messages"]
    assert messages["loss"] == pytest.approx(0.5, abs=0.05)


def test_a_page_takes_its_document_and_its_objects(tmp_path: Path) -> None:
    text = with_keys(application='"web"', objects="4", count="2", connections="2")
    run = simulate(tmp_path, text)
    summary = summarise(run)["flows"][0]
    assert summary["pages"]["count"] == 2
    assert summary["requests"]["count"] == 10
    assert summary["intact"] is True
    # 110 kB at 10 Mb/s are 88 ms; the second page finds its connections open
    assert 0.088 < summary["pages"]["p50_s"] < 0.3


def test_video_plays_the_rate_that_the_link_carries(tmp_path: Path) -> None:
    text = with_keys(application='"video"', chunk='"1s"').replace('"2s"', '"20s"')
    video = summarise(simulate(tmp_path, text))["flows"][0]["video"]
    assert video["stalls"] == 0
    assert 4e6 < video["mean_bitrate_bps"] <= 8e6


def test_video_stalls_on_a_link_slower_than_its_lowest_rate(tmp_path: Path) -> None:
    text = with_keys(application='"video"', chunk='"1s"', ladder='["2Mb/s"]')
    text = text.replace('"10Mb/s"', '"1Mb/s"').replace('"2s"', '"20s"')
    video = summarise(simulate(tmp_path, text))["flows"][0]["video"]
    # each second of video takes two, of which playing stands still for one
    assert video["stalled_s"] == pytest.approx(10, abs=2)


def test_short_flows_arrive_as_they_please(tmp_path: Path) -> None:
    text = with_keys(
        application='"request-response"',
        arrivals='"poisson 50ms"',
        response='"pareto 1KB shape 1.5"',
    )
    run = simulate(tmp_path, text)
    assert run.metadata["valid"], run.metadata["invalid_reasons"]
    rows = run.rows("requests")
    assert 20 < len(rows) < 70
    again = simulate(tmp_path, text)
    assert again.rows("requests") == rows
    other = simulate(tmp_path, text, seed=2)
    assert other.rows("requests") != rows


def test_arrivals_and_sizes_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "times.txt").write_text("# seconds\n0.5\n0\n0.25\n")
    (tmp_path / "sizes.txt").write_text("1000\n2KB\n")
    text = with_keys(
        application='"request-response"', arrivals='"file times.txt"', response='"file sizes.txt"'
    )
    rows = simulate(tmp_path, text).rows("requests")
    assert [row["start_ns"] for row in rows] == [0, 250 * MS, 500 * MS]
    assert {row["bytes"] for row in rows} <= {1_000, 2_000}


@pytest.mark.parametrize("most", [("25ms", "met"), ("15ms", "missed")])
def test_verdict_and_comparison_have_percentiles(tmp_path: Path, most: tuple[str, str]) -> None:
    text = with_keys(application='"request-response"', response='"1KB"', think='"10ms"')
    text += f'\n[[expect]]\nof = "app"\nlatency = "{most[0]}"\npercentile = 90\n'
    run = simulate(tmp_path, text)
    (check,) = latency_checks([run])
    assert (check.what, check.outcome) == ("p90 of app", most[1])
    names = [quantity.name for quantity in measured(run)]
    assert names == ["p50 of app", "p95 of app", "p99 of app"]
    png, svg = draw_latency(run, tmp_path / "latency")
    assert png.stat().st_size > 1_000
    assert svg.exists()


def test_bulk_beside_an_application_delays_it(tmp_path: Path) -> None:
    text = with_keys(application='"request-response"', response='"1KB"', think='"10ms"')
    alone = summarise(simulate(tmp_path, text))["flows"][0]["requests"]["p50_s"]
    # requests go from alice to bob, as the bulk data do
    bulk = '\n[flows.bulk]\nfrom = "alice"\nto = "bob"\nprotocol = "tcp"\n'
    beside = summarise(simulate(tmp_path, text + bulk))["flows"][0]["requests"]["p50_s"]
    assert beside > 1.5 * alone

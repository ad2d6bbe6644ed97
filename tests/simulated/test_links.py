"""What links do to packets, on whole simulated runs of some seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulated.test_testbed import simulate

from mptcplab.results.run import Run
from mptcplab.simulated.testbed import UnsupportedError

LINK = """
duration = "4s"
interval = "500ms"
hosts = ["alice", "bob"]

[links.line]
between = ["alice", "bob"]
rtt = "20ms"

[flows.main]
from = "alice"
to = "bob"
"""


def run_on(folder: Path, keys: str, append: str = "") -> Run:
    return simulate(folder, LINK.replace('rtt = "20ms"', f'rtt = "20ms"\n{keys}') + append)


def total(done: Run, column: str, direction: str = "forward") -> int:
    return sum(row[column] for row in done.rows("links") if row["direction"] == direction)


@pytest.mark.parametrize("discipline", ["drop-tail", "fq_codel"])
def test_every_byte_arrives_whatever_a_link_does_to_packets(
    discipline: str, tmp_path: Path
) -> None:
    done = run_on(
        tmp_path,
        f'rate = "10Mb/s"\ndiscipline = "{discipline}"\njitter = "1ms"\n'
        'jitter_distribution = "normal"\njitter_reorders = true\nreorder = "0.5%"\n'
        'duplicate = "2%"\ncorrupt = "0.5%"\n'
        'burst_loss = { good_to_bad = "0.1%", bad_to_good = "50%" }',
    )
    assert done.metadata["valid"], done.metadata["invalid_reasons"]
    [flow] = done.metadata["flows"]
    assert flow["intact"] is True
    assert flow["bytes"] > 500_000
    packets = total(done, "tx_packets")
    assert 0.01 < total(done, "duplicates") / packets < 0.03
    assert 0 < total(done, "corrupted") / packets < 0.015
    assert 0 < total(done, "drops_loss") / packets < 0.02


def test_a_damaged_packet_is_as_good_as_lost(tmp_path: Path) -> None:
    done = run_on(tmp_path, 'rate = "10Mb/s"\ncorrupt = "1%"')
    assert total(done, "corrupted") > 0
    sent = [row["retransmissions"] for row in done.rows("subflows") if row["host"] == "alice"]
    assert max(sent) >= total(done, "corrupted") / 2


def test_goodput_follows_a_recorded_capacity_and_the_rate_is_its_mean(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("0,20Mb/s\n1,5Mb/s\n2,\n")
    done = run_on(tmp_path, 'trace = "steps.csv"\nqueue = "100 packets"')
    assert done.metadata["valid"], done.metadata["invalid_reasons"]
    rows = [row for row in done.rows("links") if row["direction"] == "forward"]
    assert [row["rate_bps"] for row in rows] == [20_000_000, 20_000_000, 5_000_000, 5_000_000] * 2
    for row in rows[1:]:
        assert row["bps"] == pytest.approx(row["rate_bps"], rel=0.05)


def test_the_timeline_gives_a_link_a_trace_and_a_rate_ends_it(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("0,20Mb/s\n1,5Mb/s\n")
    changes = (
        '[[timeline]]\nat = "1s"\nchange = "line"\ntrace = "steps.csv"\n'
        '[[timeline]]\nat = "3s"\nchange = "line"\nrate = "2Mb/s"\ncorrupt = "100%"\n'
    )
    done = run_on(tmp_path, 'rate = "10Mb/s"', changes)
    rows = [row for row in done.rows("links") if row["direction"] == "forward"]
    rates = [10, 10, 20, 20, 5, 5, 2, 2]
    assert [row["rate_bps"] // 1_000_000 for row in rows] == rates
    assert all(row["corrupted"] == 0 for row in rows[:6])
    assert sum(row["corrupted"] for row in rows[6:]) > 0


def test_a_link_of_no_rate_on_which_every_packet_skips_the_delay_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="simulated time would stand still"):
        run_on(tmp_path, 'reorder = "100%"')
    changed = '[[timeline]]\nat = "1s"\nchange = "line"\nreorder = "100%"\n'
    with pytest.raises(UnsupportedError, match="simulated time would stand still"):
        run_on(tmp_path, "", changed)

"""Links that damage, double, reorder or lose packets in bursts, or follow a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.linux.two_links import faults, finished, scenario

from mptcplab.linux.drivers.choose import choose_driver
from mptcplab.linux.errors import MachineCannotError
from mptcplab.results.run import Run

ONE_LINK = """
duration = "3s"
interval = "250ms"
hosts = ["alice", "bob"]

[links.one]
between = ["alice", "bob"]
rtt = "20ms"
KEYS

[flows.main]
from = "alice"
to = "bob"
"""
IMPAIRMENTS = [
    'burst_loss = { good_to_bad = "0.1%", bad_to_good = "50%" }',
    'reorder = "1%"',
    'duplicate = "1%"',
    'corrupt = "1%"',
    'jitter = "1ms"\njitter_distribution = "pareto"',
    'jitter = "1ms"\njitter_reorders = true',
    'discipline = "fq_codel"',
    'queue = "100 packets"',
]


def total(done: Run, column: str) -> int:
    return sum(row[column] for row in done.rows("links"))


def counted(done: Run, counter: str) -> int:
    return sum(
        row["after"] - row["before"] for row in done.rows("counters") if row["counter"] == counter
    )


@pytest.mark.kernel
@pytest.mark.slow
def test_the_kernel_drops_what_is_damaged_and_every_byte_arrives(tmp_path: Path) -> None:
    keys = (
        'rate = "10Mb/s"\ncorrupt = "2%"\nduplicate = "2%"\nreorder = "1%"\n'
        'burst_loss = { good_to_bad = "0.1%", bad_to_good = "50%" }'
    )
    done = finished(tmp_path, ONE_LINK.replace("KEYS", keys))
    assert faults(done) == []
    [flow] = done.metadata["flows"]
    assert flow["intact"] is True
    assert done.metadata["drivers"] == {"one": "tap"}
    assert total(done, "duplicates") > 0
    # counted on the link up to the last sample, and by the hosts a little before and after
    assert total(done, "corrupted") >= 5
    assert counted(done, "TcpInCsumErrors") == pytest.approx(total(done, "corrupted"), abs=5)


@pytest.mark.kernel
@pytest.mark.slow
def test_a_trace_begins_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("0,20Mb/s\n1,5Mb/s\n2,\n")
    text = ONE_LINK.replace("KEYS", 'trace = "steps.csv"\nqueue = "100 packets"')
    done = finished(tmp_path, text)
    assert faults(done) == []
    rows = [row for row in done.rows("links") if row["direction"] == "forward"]
    for row in rows:
        middle_ns = row["time_ns"] - row["interval_ns"] / 2
        rate_bps = 20e6 if middle_ns % 2e9 < 1e9 else 5e6
        assert row["rate_bps"] == pytest.approx(rate_bps, rel=0.1)
        assert row["bps"] < 1.15 * rate_bps + 1e6


@pytest.mark.parametrize("keys", IMPAIRMENTS)
@pytest.mark.parametrize("driver", ["kernel", "netem"])
def test_what_only_the_emulator_does_is_refused_of_other_drivers(
    keys: str, driver: str, tmp_path: Path
) -> None:
    text = ONE_LINK.replace("KEYS", f'rate = "10Mb/s"\ndriver = "{driver}"\n{keys}')
    [link] = scenario(tmp_path, text).topology.links
    with pytest.raises(
        MachineCannotError, match=r"link one: the kernel driver .*use the tap drive"
    ):
        choose_driver(link, ())


def test_what_the_timeline_makes_of_a_link_chooses_its_driver_too(tmp_path: Path) -> None:
    text = ONE_LINK.replace("KEYS", 'rate = "10Mb/s"\ndriver = "netem"')
    text += '[[timeline]]\nat = "1s"\nchange = "one"\nduplicate = "1%"\n'
    asked = scenario(tmp_path, text)
    with pytest.raises(MachineCannotError, match="has no `duplicate`"):
        choose_driver(asked.topology.links[0], asked.timeline)

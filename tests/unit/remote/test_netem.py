"""Delay and loss that are made on real hosts: what is asked of ``tc``, and when nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.remote.test_set_up import loaded, planned

from mptcplab.remote.errors import HostsInputError
from mptcplab.remote.testbed import check_supported
from mptcplab.scenario import load

WORKS: dict[str, Any] = {"problem": "", "qdiscs": {}}


def with_link(folder: Path, values: str, more: str = "") -> Any:
    """Return a scenario whose link a has further values."""
    file = loaded(folder).source
    text = Path(file).read_text().replace('rate = "50Mb/s"\n', f'rate = "50Mb/s"\n{values}\n', 1)
    text = text.replace("[hosts.client.", '[hosts.client]\nssh = "root@a"\n[hosts.client.', 1)
    text = text.replace("[hosts.server.", '[hosts.server]\nssh = "root@b"\n[hosts.server.', 1)
    Path(file).write_text(text + more)
    return load(file)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ('delay = "10ms"', "delay 10000us"),
        ('rtt = "25ms"\njitter = "1ms"', "delay 12500us 1000us rate 8tbit"),
        ('delay = "1500ns"', "delay 1.5us"),
        ("loss = 0.005", "loss random 0.5%"),
        (
            "burst_loss = { good_to_bad = 0.01, bad_to_good = 0.3 }",
            "loss gemodel 1% 30% 100% 0%",
        ),
        ("duplicate = 0.02\ncorrupt = 0.001", "duplicate 2% corrupt 0.1%"),
    ],
)
def test_what_tc_is_asked(tmp_path: Path, values: str, expected: str) -> None:
    scenario = with_link(tmp_path, f'driver = "netem"\n{values}')
    plan = planned(scenario, netem=WORKS)
    assert plan.problems == []
    (step,) = (step for step in plan.steps if step.command[0] == "tc")
    here = "dev enp1s0 root handle 7101:"
    assert str(step) == f"tc qdisc add {here} netem limit 1000000 {expected}"
    assert step.undo == (f"tc qdisc del {here}".split(),)


def test_loss_hits_single_packets(tmp_path: Path) -> None:
    plan = planned(with_link(tmp_path, 'driver = "netem"\nloss = 0.01'), netem=WORKS)
    (step,) = (step for step in plan.steps if "gso_max_segs" in step.command)
    assert str(step) == "ip link set dev enp1s0 gso_max_segs 1"
    assert step.undo == (["ip", "link", "set", "dev", "enp1s0", "gso_max_segs", "65535"],)


def test_nothing_is_made_unasked(tmp_path: Path) -> None:
    plan = planned(with_link(tmp_path, 'delay = "10ms"\nloss = 0.01'))
    assert not any(step.command[0] == "tc" for step in plan.steps)


def test_a_direction_is_made_where_it_begins(tmp_path: Path) -> None:
    scenario = with_link(tmp_path, 'driver = "netem"\nbackward = { delay = "10ms" }')
    plan = planned(scenario, netem=WORKS)
    assert not any(step.command[0] == "tc" for step in plan.steps)  # the server's


def test_what_the_timeline_sets_is_made_from_the_start(tmp_path: Path) -> None:
    more = '\n[[timeline]]\nat = "1s"\nchange = "a"\nloss = 0.01\n'
    scenario = with_link(tmp_path, 'driver = "netem"', more)
    check_supported(scenario)
    texts = list(map(str, planned(scenario, netem=WORKS).steps))
    assert "tc qdisc add dev enp1s0 root handle 7101: netem limit 1000000" in texts
    assert "ip link set dev enp1s0 gso_max_segs 1" in texts


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"netem": {"problem": "its kernel has no netem", "qdiscs": {}}}, "has no netem"),
        ({"netem": {"problem": "", "qdiscs": {"enp1s0": "htb 1:"}}}, "a qdisc of its own (htb 1:)"),
        ({"netem": WORKS, "management": ["enp1s0"]}, "the interface of the SSH connection"),
        ({"netem": WORKS, "defaults": ["enp1s0"]}, "the interface of the default route"),
    ],
)
def test_what_stands_in_its_way(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    plan = planned(with_link(tmp_path, 'driver = "netem"\ndelay = "10ms"'), **changed)
    assert any(says in problem for problem in plan.problems)
    assert not any(step.command[0] == "tc" for step in plan.steps)


@pytest.mark.parametrize(
    ("values", "more", "says"),
    [
        ('driver = "netem"\ndelay = "5ms"\nreorder = 0.1', "", "links.a.reorder: netem does not"),
        (
            'driver = "netem"\ndelay = "5ms"\njitter = "1ms"\njitter_distribution = "normal"',
            "",
            "links.a.jitter_distribution: netem does not",
        ),
        (
            'driver = "netem"',
            '\n[[timeline]]\nat = "1s"\nchange = "a"\nrate = "1Mb/s"\n',
            "timeline: set of a: a real link is what it is",
        ),
        (
            "",
            '\n[[timeline]]\nat = "1s"\nchange = "a"\nloss = 0.1\n',
            "timeline: set of a: a real link is what it is",
        ),
    ],
)
def test_what_it_does_not_make(tmp_path: Path, values: str, more: str, says: str) -> None:
    with pytest.raises(HostsInputError) as raised:
        check_supported(with_link(tmp_path, values, more))
    assert says in str(raised.value)

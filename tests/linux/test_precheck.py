"""Links that are what they should be are found so: slow ones, far ones, ones behind switches."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.linux.two_links import scenario

from mptcplab.linux.lab.lab import open_scenario
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.linux.measure.precheck import Precheck

pytestmark = pytest.mark.kernel

ONE_LINK = """
hosts = ["a", "b"]
[links.l]
between = ["a", "b"]
rate = "1Gb/s"
[flows.f]
from = "a"
to = "b"
"""

BEHIND_SWITCHES = """
hosts = ["client", "server"]
switches = { s1 = {}, s2 = {} }
[links.wifi]
between = ["client", "server"]
rate = "50Mb/s"
rtt = "20ms"
[links.access]
between = ["client", "s1"]
rate = "100Mb/s"
[links.tunnel]
between = ["s1", "s2"]
rate = "20Mb/s"
rtt = "40ms"
mtu = 1280
[links.core]
between = ["s2", "server"]
rate = "100Mb/s"
[flows.f]
from = "client"
to = "server"
"""


def found(folder: Path, text: str, *overrides: str) -> tuple[list[str], list[str]]:
    """Return what is found wrong with a scenario's links, and what is noted."""
    asked = scenario(folder, 'duration = "3s"\n' + text, *overrides)

    def check(_send: object) -> tuple[list[str], list[str]]:
        with open_scenario(asked) as lab:
            precheck = Precheck(asked, lab)
            return precheck.reasons(), precheck.notes

    reasons, notes = run_supervised(check)
    return list(reasons), list(notes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "link", [("rate=600Mb/s",), ("rate=100Mb/s", "rtt=1ms", "queue=1BDP")], ids=" ".join
)
def test_a_fast_link(tmp_path: Path, link: tuple[str, ...]) -> None:
    reasons, notes = found(tmp_path, ONE_LINK, *(f"links.l.{key}" for key in link))
    assert reasons == []
    # A machine that is busy with something else may not be able to offer as much: it says so.
    assert all("this machine could offer no more than" in note for note in notes), notes


@pytest.mark.slow
@pytest.mark.parametrize(
    "link",
    [
        ("rate=1234567b/s",),
        ("rate=100kb/s",),
        ("rate=256kb/s", "rtt=10ms"),
        ("rate=100kb/s", "rtt=600ms"),
        ("rate=64kb/s", "rtt=700ms"),
        ("rate=9.6kb/s", "rtt=10ms"),
    ],
    ids=" ".join,
)
def test_one_link(tmp_path: Path, link: tuple[str, ...]) -> None:
    assert found(tmp_path, ONE_LINK, *(f"links.l.{key}" for key in link)) == ([], [])


@pytest.mark.slow
def test_a_link_too_slow_to_be_measured_is_noted(tmp_path: Path) -> None:
    reasons, notes = found(tmp_path, ONE_LINK, "links.l.rate=500b/s")
    assert reasons == []
    [note] = notes
    assert note.startswith("l forward: its rate was not measured before the run, which takes ")


@pytest.mark.slow
def test_a_link_that_its_emulator_cannot_carry_is_named(tmp_path: Path) -> None:
    reasons, _ = found(tmp_path, ONE_LINK, "links.l.rate=100Gb/s", "links.l.rtt=1ms")
    assert any(reason.startswith("l forward: its emulator needs ") for reason in reasons)


@pytest.mark.slow
def test_a_link_that_only_a_quiet_machine_fills_is_measured_or_noted(tmp_path: Path) -> None:
    reasons, notes = found(tmp_path, ONE_LINK, "links.l.rate=1Gb/s")
    assert reasons == []
    assert all("could offer no more than " in note for note in notes)


@pytest.mark.slow
def test_a_link_above_what_a_check_can_send_is_noted_or_right(tmp_path: Path) -> None:
    reasons, notes = found(tmp_path, ONE_LINK, "links.l.rate=100Gb/s")
    assert reasons == []
    [note] = notes
    assert note.startswith("l forward: its rate was not measured before the run: this machine ")


@pytest.mark.slow
def test_paths_behind_switches_answer(tmp_path: Path) -> None:
    assert found(tmp_path, BEHIND_SWITCHES) == ([], [])

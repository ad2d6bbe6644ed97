"""What makes a simulated run valid: connections that came up and lived, and their subflows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise
from mptcplab.scenario import load
from mptcplab.simulated.testbed import UnsupportedError, run

ONE_LINK = """
duration = "5s"
hosts = ["a", "b"]
[links.l]
between = ["a", "b"]
rate = "1Mb/s"
rtt = "50ms"
[flows.f]
from = "a"
to = "b"
"""
TWO_LINKS = (
    ONE_LINK
    + """
[links.m]
between = ["a", "b"]
rate = "1Mb/s"
rtt = "50ms"
"""
)
NAME = "flow f, connection 0"


def simulate(tmp_path: Path, text: str, *overrides: str) -> Run:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    return Run(run(load(str(file), overrides=overrides, plugins=True), folder, Silent()))


def reasons(finished: Run) -> list[str]:
    assert finished.metadata["valid"] == (not finished.metadata["invalid_reasons"])
    said: list[str] = finished.metadata["invalid_reasons"]
    return said


@pytest.mark.parametrize(
    "overrides",
    [
        ("links.l.loss=100%",),
        ("links.l.loss=100%", "flows.f.client=b"),
        ("links.l.forward.loss=100%", "flows.f.protocol=tcp"),
        ("links.l.backward.loss=100%",),
        ("links.l.rate=100b/s",),
        ("links.l.rtt=12s",),
    ],
)
def test_a_connection_that_never_came_up(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    finished = simulate(tmp_path, ONE_LINK, *overrides)
    (reason,) = reasons(finished)
    assert reason.startswith(f"{NAME}: the connection never came up")
    assert finished.metadata["wall_s"] < 5


def test_a_subflow_that_never_came_up_is_named(tmp_path: Path) -> None:
    finished = simulate(tmp_path, TWO_LINKS, "links.m.loss=100%")
    assert reasons(finished) == [
        f"{NAME}: no subflow came up on m, 10.0.2.1 to 10.0.2.2",
    ]


@pytest.mark.parametrize("count", [6, 12])
def test_many_links_have_a_subflow_each(tmp_path: Path, count: int) -> None:
    links = "".join(
        f'[links.l{n}]\nbetween = ["a", "b"]\nrate = "1Mb/s"\nrtt = "20ms"\n'
        for n in range(1, count)
    )
    finished = simulate(tmp_path, ONE_LINK + links, "duration=3s")
    assert reasons(finished) == []
    used = {row["link"] for row in finished.rows("subflows") if row["bytes_acked"] > 0}
    assert len(used) == count


@pytest.mark.parametrize("rtt", ["20ms", "700ms", "1500ms"])
@pytest.mark.parametrize("rate", ["64kb/s", "2Mb/s"])
def test_slow_and_far_links_are_valid(tmp_path: Path, rate: str, rtt: str) -> None:
    finished = simulate(tmp_path, ONE_LINK, f"links.l.rate={rate}", f"links.l.rtt={rtt}")
    assert reasons(finished) == []


def test_a_queue_drains_for_as_long_as_it_takes_and_is_counted_apart(tmp_path: Path) -> None:
    finished = simulate(tmp_path, ONE_LINK, "links.l.rate=64kb/s", "flows.f.buffer=2MB")
    assert reasons(finished) == []
    (end,) = finished.metadata["flows"]
    assert end["intact"]
    assert end["bytes"] < 64_000 * 5 / 8
    assert end["bytes"] + end["drained_bytes"] > 1_000_000
    (flow,) = summarise(finished)["flows"]
    assert (flow["bytes"], flow["drained_bytes"]) == (end["bytes"], end["drained_bytes"])
    assert sum(row["bytes"] for row in finished.rows("flows")) == end["bytes"]


def test_links_that_the_timeline_takes_down_are_said_and_no_fault(tmp_path: Path) -> None:
    text = TWO_LINKS + '[[timeline]]\nat = "2s"\ndown = ["l", "m"]\n'
    finished = simulate(tmp_path, text)
    assert reasons(finished) == []
    (note,) = finished.metadata["notes"]
    assert note.startswith(f"{NAME}: no progress from")
    assert note.endswith("the scenario had taken its links down")


def test_links_that_return_are_used_again(tmp_path: Path) -> None:
    text = ONE_LINK + '[[timeline]]\nat = "2s"\ndown = "l"\n[[timeline]]\nat = "4s"\nup = "l"\n'
    finished = simulate(tmp_path, text, "tunables.path_manager=kernel")
    assert reasons(finished) == []
    assert finished.metadata["flows"][0]["intact"]


STOPPING = """
from mptcplab.stack.schedulers.base import Scheduler, has_room


class Stopping(Scheduler):
    '''Sends a hundred thousand bytes, and then nothing.'''

    def select(self, usable, view):
        if view.sent_offset >= 100_000:
            return None
        return next((subflow for subflow in usable if has_room(subflow, view)), None)
"""


def test_a_connection_that_dies_is_said_first_with_the_time(tmp_path: Path) -> None:
    (tmp_path / "stopping_scheduler.py").write_text(STOPPING)
    text = 'tunables.scheduler = "stopping_scheduler:Stopping"\n' + TWO_LINKS
    finished = simulate(tmp_path, text, "duration=20s", "links.m.loss=100%")
    dead, missing = reasons(finished)
    assert dead.startswith(f"{NAME}: no progress from ")
    assert float(dead.split("from ")[1].split(" s on")[0]) <= 3
    assert "bytes waiting" in dead
    assert "no subflow came up on m" in missing


@pytest.mark.parametrize("overrides", [(), ("links.l.rtt=200ns",)])
def test_a_path_that_takes_no_time_is_refused(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    text = ONE_LINK.replace('rate = "1Mb/s"\n', "").replace('rtt = "50ms"\n', "")
    with pytest.raises(UnsupportedError, match=r"links\.l: .* simulated time would stand still"):
        simulate(tmp_path, text, *overrides)


def test_a_run_in_another_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert reasons(pool.submit(simulate, tmp_path, ONE_LINK).result()) == []


def test_two_ways_between_switches_are_both_used(tmp_path: Path) -> None:
    links = "".join(
        f'links.{name} = {{ between = ["{a}", "{b}"], rate = "{rate}Mb/s", rtt = "2ms" }}\n'
        for name, a, b, rate in [
            ("a0", "a", "s", 10),
            ("a1", "a", "s", 10),
            ("b0", "b", "t", 20),
            ("sc", "s", "c", 3),
            ("sd", "s", "d", 3),
            ("tc", "t", "c", 3),
            ("td", "t", "d", 3),
        ]
    )
    finished = simulate(
        tmp_path,
        'duration = "5s"\nhosts = ["a", "b"]\nswitches = { s = {}, t = {}, c = {}, d = {} }\n'
        f'flows.f = {{ from = "a", to = "b" }}\n{links}',
    )
    assert reasons(finished) == []
    means = {link["name"]: link["mean_bps"] for link in summarise(finished)["links"]}
    assert min(means["sc"], means["sd"]) > 2.5e6

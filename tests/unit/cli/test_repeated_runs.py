"""Seeds, folders and names of repeated runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mptcplab.cli.repeated_runs import folder_names, seeds_of
from mptcplab.report.figure import save
from mptcplab.scenario import load
from mptcplab.scenario.model import Scenario
from mptcplab.scenario.repetition import random_sources, with_drawn_starts

SCENARIO = """
duration = "4s"
hosts = ["a", "b"]
links.l = { between = ["a", "b"], rate = "10Mb/s", rtt = "10ms" }
flows.f = { from = "a", to = "b" }
"""


def scenario(tmp_path: Path, *overrides: str) -> Scenario:
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    return load(path, overrides=overrides)


def test_a_name_keeps_what_it_can_of_its_label() -> None:
    names = folder_names(["1 link, small buffer", "loss 0.1 %", "loss 0.5 %", "低", "TCP over x"])
    assert list(names.values()) == [
        "1-link-small-buffer",
        "loss-0.1",
        "loss-0.5",
        "低",
        "tcp-over-x",
    ]


def test_no_two_labels_have_one_name() -> None:
    labels = [
        "a b",
        "a,b",
        "A B",
        "%",
        "..",
        "/",
        "../x",
        "x",
        "",
        " ",
        "sweep",
        "y" * 300,
        "y" * 301,
    ]
    names = folder_names(labels, reserved=("sweep",))
    again = folder_names([*labels, *names.values()], reserved=("sweep",))
    for found in (names, again):
        taken = [name.casefold() for name in found.values()]
        assert len(set(taken)) == len(taken)
        assert not {"", ".", "..", "sweep"} & set(taken)
        assert all("/" not in name and len(name.encode()) < 255 for name in taken)


def test_a_name_with_a_dot_is_a_file_of_its_own(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    for stem in ("loss-0.1", "loss-0.5"):
        assert [path.name for path in save(Figure(), tmp_path / stem)] == [
            f"{stem}.png",
            f"{stem}.svg",
        ]


def test_letters_that_the_font_lacks_are_no_warning(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.suptitle("低")
    assert save(figure, tmp_path / "low")[0].exists()


def test_every_scenario_has_something_random(tmp_path: Path) -> None:
    (source,) = random_sources(scenario(tmp_path))
    assert source == "processing times of hosts (within 500 us)"  # of 1,211 us a frame takes
    fast = scenario(tmp_path, "links.l.rate=1Gb/s")
    assert random_sources(fast) == ["processing times of hosts (within 6.056 us)"]


def test_seeds_of_a_scenario_without_anything_random_are_one_observation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = scenario(tmp_path, "processing_jitter=0")
    assert random_sources(quiet) == []
    assert seeds_of("simulated", quiet, 5) == [1]
    assert "nothing in it is random" in capsys.readouterr().err
    assert seeds_of("linux", quiet, 3) == [1, 2, 3]
    assert seeds_of("simulated", scenario(tmp_path, "links.l.loss=1%"), 2) == [1, 2]


def test_flows_start_as_their_seed_draws_it(tmp_path: Path) -> None:
    asked = scenario(tmp_path)
    starts = {with_drawn_starts(replace(asked, seed=seed)).flows[0].start_ns for seed in range(20)}
    assert len(starts) == 20
    assert 0 <= min(starts) < max(starts) <= 10_000_000
    exact = scenario(tmp_path, "start_jitter=0")
    assert with_drawn_starts(exact).flows == exact.flows
    short = scenario(tmp_path, "flows.f.stop=100ms")  # at most 2 % of its time
    assert with_drawn_starts(short).flows[0].start_ns <= 2_000_000

"""Each example runs valid in simulation, and is what its file expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.report.latency import LatencyCheck, latency_checks
from mptcplab.report.verdict import Check, checks
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.scenario.repetition import with_drawn_starts
from mptcplab.simulated.testbed import run

EXAMPLES = (
    *("wifi-and-lte", "backup", "firewall", "starlink"),
    *("satellite-and-dsl", "data-centre", "video", "ecn"),
)
"""Those that people ask for; the networks of papers take minutes (bench/papers.py)."""


def finished(tmp_path: Path, name: str, *overrides: str) -> Run:
    scenario = load(f"examples/{name}", overrides=overrides)
    return Run(run(with_drawn_starts(scenario), tmp_path / "run", Silent()))


def judged(done: Run) -> list[Check | LatencyCheck]:
    return [*checks(done), *latency_checks([done])]


@pytest.mark.documented
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_valid_and_as_expected(tmp_path: Path, name: str) -> None:
    done = finished(tmp_path, name)
    assert done.metadata["valid"], done.metadata["invalid_reasons"]
    assert judged(done)
    assert [check.text for check in judged(done) if check.outcome != "met"] == []


@pytest.mark.documented
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("starlink", ('flows.call.links=["lan","space","uplink"]',)),
        ("video", ('flows.film.links=["wifi","fibre","uplink"]',)),
        ("ecn", ("links.*.ecn=false", "links.*.discipline=drop-tail")),
        ("data-centre", ("flows.*.protocol=tcp",)),
    ],
)
def test_without_what_an_example_is_about_it_is_not_as_expected(
    tmp_path: Path, name: str, overrides: tuple[str, ...]
) -> None:
    done = finished(tmp_path, name, *overrides)
    assert done.metadata["valid"], done.metadata["invalid_reasons"]
    assert any(check.outcome == "missed" for check in judged(done))

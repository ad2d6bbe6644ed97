"""Any scenario runs, or is refused with an error of one line that says what is wrong; none crashes.

``pytest --hypothesis-profile=search tests/property/test_scenarios.py`` searches for others, ten
times as many (``MPTCPLAB_SEARCH_FACTOR``).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from tests.property.scenarios import SCENARIOS, TRACES, Tree
from tests.property.toml_text import written
from tests.search import cases

from mptcplab.cli.render import describe as describe_run
from mptcplab.linux.measure.unsupported import UnsupportedError as UnsupportedOnLinuxError
from mptcplab.linux.measure.unsupported import check_supported
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import Scenario, ScenarioError, load
from mptcplab.scenario.describe import describe
from mptcplab.scenario.to_json import as_plain
from mptcplab.simulated.testbed import UnsupportedError, run


def loaded(file: Path) -> Scenario | None:
    """Return the scenario of a file, None where it is refused; then each error is one good line."""
    try:
        return load(file)
    except ScenarioError as refused:
        for error in refused.errors:
            assert error.file
            assert error.problem
            assert "\n" not in str(error)
        return None


def checked_refusal(refused: UnsupportedError | UnsupportedOnLinuxError) -> None:
    """Assert that each line of a testbed's refusal says of what, and what is there instead."""
    for line in str(refused).splitlines():
        assert "expected" in line or " has " in line


def simulated(scenario: Scenario, folder: Path) -> Run | None:
    """Return the run of a scenario, None where the testbed refuses it."""
    try:
        return Run(run(scenario, folder, Silent()))
    except UnsupportedError as refused:
        checked_refusal(refused)
        return None


@pytest.mark.compiled
@pytest.mark.slow
@settings(max_examples=cases(250))
@given(tree=SCENARIOS)
def test_any_scenario_runs_or_is_refused_in_one_line(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in TRACES.items():
            (folder / file).write_text(text)
        scenario = loaded(written(tree, folder))
        if scenario is None:
            return
        assert describe(scenario)
        json.dumps(as_plain(scenario))
        try:
            check_supported(scenario)
        except UnsupportedOnLinuxError as refused:
            checked_refusal(refused)
        done = simulated(scenario, folder / "run")
        if done is not None:
            assert done.metadata["valid"] or done.metadata["invalid_reasons"]
            assert scenario.name in describe_run(done)

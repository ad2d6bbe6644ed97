"""The testbeds by name, each imported only when it is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mptcplab.results.observer import Observer
    from mptcplab.scenario.model import Scenario

# name -> module with a function run(scenario, folder, observer) -> Path
TESTBEDS: Final = {"linux": "mptcplab.linux.testbed", "simulated": "mptcplab.simulated.testbed"}
DEFAULT: Final = "simulated"


def run_on(name: str, scenario: Scenario, folder: Path, observer: Observer) -> Path:
    """Run a scenario on a testbed and return the folder of the finished run."""
    module = importlib.import_module(TESTBEDS[name])
    written: Path = module.run(scenario, folder, observer)
    return written

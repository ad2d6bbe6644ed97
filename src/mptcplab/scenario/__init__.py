"""From a TOML file to a validated, fully resolved Scenario."""

from mptcplab.scenario.errors import CombinedScenarioError, ScenarioError
from mptcplab.scenario.load import Summary, experiments, is_topology, load, load_topology
from mptcplab.scenario.model import Scenario

__all__ = [
    "CombinedScenarioError",
    "Scenario",
    "ScenarioError",
    "Summary",
    "experiments",
    "is_topology",
    "load",
    "load_topology",
]

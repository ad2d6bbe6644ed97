"""From a TOML file to a validated, fully resolved ``Scenario``::

    from mptcplab import scenario

    bulk = scenario.load("two-links.toml", overrides=("links.*.rate=50Mb/s",))

What ``__all__`` names is for programs and notebooks.  The modules work in this order:

``schema``
    every key of the file, and reading a file by it
``resolve``
    parsed tables to hosts, links, addresses, flows and a timeline in integers
``load``
    both for one file, ``--set`` and ``--duration`` applied: ``load`` and ``load_topology``
``model``
    the result; ``buffers`` computes what buffers it needs, ``repetition`` varies its seed,
    ``describe`` and ``to_json`` show it

What is wrong with a file is a ``ScenarioError`` (``errors``), raised before anything is built.
"""

from mptcplab.scenario.errors import CombinedScenarioError, ScenarioError
from mptcplab.scenario.load import (
    Summary,
    examples,
    experiments,
    is_topology,
    load,
    load_topology,
)
from mptcplab.scenario.model import Scenario

__all__ = [
    "CombinedScenarioError",  # several errors of one file
    "Scenario",  # a resolved scenario: what a testbed runs
    "ScenarioError",  # something in a scenario file or in its overrides is wrong
    "Summary",  # a built-in scenario's name, title, question and lesson
    "examples",  # the other scenarios of the package, as "examples/NAME"
    "experiments",  # the 2012 report's
    "is_topology",  # whether a file or name is a network alone
    "load",  # reads a scenario
    "load_topology",  # reads the network of a topology or scenario
]

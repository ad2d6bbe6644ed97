"""A scenario for a repeated run: another seed, and flow starts that are shifted by it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from mptcplab.scenario.model import Flow, Scenario

START_SPREAD = (
    0.02  # of a flow's time, within which it starts at random: repetitions differ in phase
)


def repetition(scenario: Scenario, seed: int) -> Scenario:
    """Return the scenario with another seed, and the start of each flow shifted by it.

    The same seed shifts the flows of two variants alike.
    """
    random = Random(seed)
    flows = []
    for flow in scenario.flows:
        spread_ns = round(_active_ns(flow, scenario) * START_SPREAD)
        flows.append(replace(flow, start_ns=flow.start_ns + random.randrange(spread_ns + 1)))
    return replace(scenario, seed=seed, flows=tuple(flows))


def _active_ns(flow: Flow, scenario: Scenario) -> int:
    return (flow.stop_ns or scenario.duration_ns) - flow.start_ns

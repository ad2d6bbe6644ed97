"""A run made shorter or longer without changing its shape."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from mptcplab.scenario.errors import ScenarioError
from mptcplab.scenario.model import Action, Flow, Scenario
from mptcplab.scenario.schema.value_kinds import MAX_DURATION_NS

MIN_INTERVAL_NS = 10_000_000
SAMPLES_A_STAGE = 10
"""What the shortest stage of a run that was made shorter should have."""


def scaled(scenario: Scenario, duration_ns: int | None, time_scale: float | None) -> Scenario:
    if duration_ns is not None and time_scale is not None:
        raise ScenarioError(
            "--duration and --time-scale",
            "",
            "are given together, and both set the duration",
            "one of them",
        )
    scale = Fraction(1)
    if duration_ns is not None:
        if duration_ns <= 0:
            raise ScenarioError("--duration", "", "is not above 0", 'a time such as "20s"')
        scale = Fraction(duration_ns, scenario.duration_ns)
    elif time_scale is not None:
        if not 0 < time_scale < float("inf"):
            raise ScenarioError(
                "--time-scale", "", f"{time_scale} is not a factor above 0", "such as 0.05"
            )
        scale = Fraction(str(time_scale))
    if scenario.duration_ns * scale > MAX_DURATION_NS:
        option = "--duration" if duration_ns is not None else "--time-scale"
        raise ScenarioError(option, "", "makes the run too long", "1000 hours at most")
    if scale == 1:
        return scenario
    result = _multiplied(scenario, scale)
    if len(result.stages()) != len(scenario.stages()):
        raise ScenarioError(
            "--duration" if duration_ns is not None else "--time-scale",
            "",
            f"a factor of {float(scale):.3g} makes actions of the timeline coincide",
            "a longer run",
        )
    return replace(result, interval_ns=_interval_ns(result)) if scale < 1 else result


def _multiplied(scenario: Scenario, scale: Fraction) -> Scenario:
    return replace(
        scenario,
        duration_ns=_times(scenario.duration_ns, scale),
        flows=tuple(_scaled_flow(flow, scale) for flow in scenario.flows),
        timeline=tuple(_scaled_action(action, scale) for action in scenario.timeline),
        time_scale=float(scale),
    )


def _times(time_ns: int, scale: Fraction) -> int:
    return round(time_ns * scale)


def _scaled_flow(flow: Flow, scale: Fraction) -> Flow:
    stop_ns = None if flow.stop_ns is None else _times(flow.stop_ns, scale)
    return replace(flow, start_ns=_times(flow.start_ns, scale), stop_ns=stop_ns)


def _scaled_action(action: Action, scale: Fraction) -> Action:
    return replace(action, at_ns=_times(action.at_ns, scale))


def _interval_ns(scenario: Scenario) -> int:
    """Return a round interval, at most the scenario's, with enough samples in each stage."""
    shortest_ns = min(end_ns - start_ns for start_ns, end_ns in scenario.stages())
    wanted_ns = min(scenario.interval_ns, shortest_ns // SAMPLES_A_STAGE)
    power_ns = MIN_INTERVAL_NS
    while power_ns * 10 <= wanted_ns:
        power_ns *= 10
    fitting = [step * power_ns for step in (1, 2, 5) if step * power_ns <= wanted_ns]
    return max(fitting, default=min(MIN_INTERVAL_NS, scenario.interval_ns))

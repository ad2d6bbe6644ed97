"""``mptcplab buffers``: equations 4, 5 and 6 of the report, for a scenario or for given paths."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from mptcplab.cli.scenario_arguments import add_plugins_argument, load_scenario

if TYPE_CHECKING:
    from mptcplab.scenario.buffers import BufferNeed

EXPECTED = 'paths as in "1Gb/s@33.3ms 300Mb/s@202ms"'


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "buffers",
        help="say how large buffers must be, for a scenario or for rates and round trips",
        description="Print how large send and receive buffers must be: for TCP, the round-trip "
        "time times the rate (equation 4 of the report); for MPTCP, twice the largest round-trip "
        "time times the sum of the rates (equations 5 and 6). For a scenario, compare this, and "
        "what is needed while queues are full, with its own buffers, or with the most that "
        "autotuning gives.",
        epilog="Exit status: 0 done, 2 bad input.",
    )
    parser.add_argument(
        "subjects",
        nargs="+",
        metavar="SCENARIO|RATE@RTT",
        help="one scenario (a file, or a built-in name such as F), or the rate and round-trip time "
        "of each path, as in 1Gb/s@33.3ms",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a key of the scenario, as in flows.*.buffer=10MB (repeatable)",
    )
    add_plugins_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run, duration=None, interval=None, time_scale=None, seed=None)


def run(args: argparse.Namespace) -> int:
    """Print what buffers are needed; ScenarioError for what is wrong with the arguments."""
    if "@" in args.subjects[0]:
        result, text = _of_paths(args.subjects)
    else:
        result, text = _of_scenario(args)
    print(json.dumps(result, indent=2) if args.json else text)
    return 0


def _of_paths(texts: list[str]) -> tuple[dict[str, Any], str]:
    from mptcplab.scenario.buffers import mptcp_buffer_bytes, tcp_buffer_bytes
    from mptcplab.text_table import columns
    from mptcplab.units import format_duration, format_rate, format_size

    paths = [_path(text) for text in texts]
    rows = [["path", "rate", "round trip", "TCP needs (equation 4)"]]
    result: dict[str, Any] = {"paths": []}
    for text, (rate_bps, rtt_ns) in zip(texts, paths, strict=True):
        needed = tcp_buffer_bytes(rtt_ns, rate_bps)
        rows.append([text, format_rate(rate_bps), format_duration(rtt_ns), format_size(needed)])
        result["paths"].append({"rate_bps": rate_bps, "rtt_ns": rtt_ns, "tcp_bytes": needed})
    longest_ns = max(rtt_ns for _, rtt_ns in paths)
    total_bps = sum(rate_bps for rate_bps, _ in paths)
    together = mptcp_buffer_bytes(longest_ns, [rate_bps for rate_bps, _ in paths])
    result["mptcp_bytes"] = together
    text = (
        f"{columns(rows, indent='')}\n\nMPTCP over all of them needs {format_size(together)} "
        f"(equation 5: 2 x {format_duration(longest_ns)} x {format_rate(total_bps)})"
    )
    return result, text


def _path(text: str) -> tuple[int, int]:
    """Return the rate and the round trip of one path."""
    from mptcplab.scenario import ScenarioError
    from mptcplab.scenario.schema.value_kinds import DURATION, RATE
    from mptcplab.units import UnitError

    rate, at, rtt = text.partition("@")
    if not at:
        raise ScenarioError(
            "buffers", "", f'"{text}" has no "@" between rate and round-trip time', EXPECTED
        )
    try:
        parsed = RATE.parse(rate), DURATION.parse(rtt)
    except UnitError as error:
        problem, _, expected = str(error).partition("; expected ")
        raise ScenarioError("buffers", text, problem, expected) from error
    if parsed[0] <= 0 or parsed[1] <= 0:
        raise ScenarioError("buffers", text, "rate and round trip must be above 0", EXPECTED)
    return parsed


def _of_scenario(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from mptcplab.scenario import ScenarioError
    from mptcplab.scenario.buffers import buffer_needs
    from mptcplab.scenario.to_json import as_plain
    from mptcplab.text_table import columns
    from mptcplab.units import format_duration, format_rate, format_size

    if len(args.subjects) > 1:
        raise ScenarioError(
            "buffers", "", "several scenarios are given", f"one scenario at a time, or {EXPECTED}"
        )
    args.scenario = args.subjects[0]
    scenario = load_scenario(args)
    needs = buffer_needs(scenario)
    heading = ["flow", "equation", "round trip", "rate", "needs", "with full queues", "has"]
    rows = [[*heading, "verdict"]]
    for need in needs:
        has = ("autotuned to " if need.autotuned else "") + format_size(need.given_bytes)
        rows.append(
            [
                need.flow,
                str(need.equation),
                format_duration(need.rtt_ns),
                format_rate(need.rate_bps),
                format_size(need.equation_bytes),
                f"{format_size(need.needed_bytes)} ({format_duration(need.full_rtt_ns)})",
                has,
                _verdict(need),
            ]
        )
    plain = [{**as_plain(need), "short_bytes": _short_bytes(need)} for need in needs]
    text = columns(rows, indent="") if needs else "no flow whose links have a rate and a delay"
    left_out = {flow.name for flow in scenario.flows} - {need.flow for need in needs}
    if needs and left_out:
        text += f"\n\nwithout rate or delay: {', '.join(sorted(left_out))}"
    return {"scenario": scenario.name, "flows": plain}, text


def _short_bytes(need: BufferNeed) -> int:
    return max(0, need.needed_bytes - need.given_bytes)


def _verdict(need: BufferNeed) -> str:
    from mptcplab.units import format_size

    if need.bounds:
        return f"short of {format_size(_short_bytes(need))}"
    if need.short:
        return f"short of {format_size(_short_bytes(need))} with full queues"
    return "enough"

"""A finished run as text: flows, links, stages and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from mptcplab.cli.applications import applications_text, mean_applications_text
from mptcplab.limits.causes import Limit
from mptcplab.limits.runs import mean_limits, run_limits
from mptcplab.report.comparison import with_margin
from mptcplab.report.latency import LatencyCheck, latency_checks
from mptcplab.report.limits import every_limit, limits_text
from mptcplab.report.repetitions import (
    MeanCheck,
    MeanComparison,
    invalid_reasons,
    mean_checks,
    mean_comparisons,
    mean_of,
    mean_quantities,
    stage_means,
    valid_ones,
)
from mptcplab.report.verdict import Check, Comparison, checks, comparisons
from mptcplab.results.debug_log import FILE as DEBUG_LOG
from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate
from mptcplab.results.summary import settle_ns, summarise
from mptcplab.text_table import columns, text_width
from mptcplab.units import format_duration, format_rate, format_size


def describe(run: Run) -> str:
    """Return the text about a run, without its folder and figure."""
    summary = summarise(run)
    parts = [
        _heading(run, summary),
        *_limits(every_limit(run_limits(run))),
        "Flows\n" + columns(_flow_rows(summary), left=2),
        *applications_text(summary["flows"]),
        "Links\n" + columns(_link_rows(summary), left=2),
    ]
    if fabric := run.metadata.get("fabric"):
        parts.append("Fabric\n" + columns(_fabric_rows(fabric), left=2))
    if len(summary["stages"]) > 1:
        parts.append("Stages\n" + columns(_stage_rows(run, summary)))
    judged = (_comparison(run), _verdict(run), _lesson(run), _notes(run))
    parts.extend(part for part in judged if part)
    return "\n\n".join(parts)


def _limits(limits: Sequence[Limit]) -> list[str]:
    text = limits_text(limits)
    return [text] if text else []


def print_debug_log(run: Run) -> None:
    """Say where the debug log of a run is, where it has one."""
    path = run.folder / DEBUG_LOG
    if path.exists():
        print(f"Log     {path}")


def _heading(run: Run, summary: dict[str, Any]) -> str:
    scenario = run.scenario
    lines = [
        f"{scenario['name']}: {scenario['title']}" if scenario["title"] else scenario["name"],
        f"{summary['duration_s']:.4g} s on {summary['testbed']}, "
        f"{summary['wall_s']:.1f} s in all, seed {scenario['seed']}",
    ]
    if scenario["time_scale"] != 1:
        lines.append(f"times scaled by {scenario['time_scale']:.4g}")
    lines += _settled(run)
    if summary["valid"]:
        lines.append("valid: the run is what the scenario asked for")
    else:
        lines.append("NOT VALID:")
        lines.extend(f"  {reason}" for reason in summary["invalid_reasons"])
    return "\n".join(lines)


def _flow_rows(summary: dict[str, Any]) -> list[list[str]]:
    rows = [["flow", "protocol", "goodput", "bytes", "intact"]]
    for flow in summary["flows"]:
        intact = {True: "every byte", False: "NO", None: "not checked"}[flow["intact"]]
        rows.append(
            [
                flow["name"],
                flow["protocol"],
                _rate(flow["goodput_bps"]),
                _bytes(flow),
                intact,
            ]
        )
    return rows


def _bytes(flow: dict[str, Any]) -> str:
    """Return what arrived in the run, and what drained after it where that was told apart."""
    drained = flow["drained_bytes"]
    return format_size(flow["bytes"]) + (f" + {format_size(drained)} after" if drained else "")


def _link_rows(summary: dict[str, Any]) -> list[list[str]]:
    rows = [["link", "driver", "configured", "mean", "used"]]
    for link in summary["links"]:
        configured = link["configured_bps"]
        rows.append(
            [
                link["name"],
                link["driver"] or "not built",
                "unlimited" if configured is None else format_rate(configured),
                format_rate(link["mean_bps"]),
                _used(link["utilisation"]),
            ]
        )
    return rows


def _fabric_rows(taken: list[dict[str, Any]]) -> list[list[str]]:
    """Return how many subflows each switch has sent on by each link."""
    subflows = Counter((each["switch"], each["link"]) for each in taken)
    rows = [["switch", "link", "subflows"]]
    rows += [[switch, link, str(count)] for (switch, link), count in sorted(subflows.items())]
    return rows


def _used(utilisation: float | None) -> str:
    return "" if utilisation is None else f"{utilisation:.0%}"


def _stage_rows(run: Run, summary: dict[str, Any]) -> list[list[str]]:
    names = [link["name"] for link in summary["links"]]
    actions: dict[float, list[str]] = {}
    for action in run.scenario["timeline"]:
        if action.get("repeated"):
            continue
        text = action["label"] or f"{action['target']} {action['verb']}"
        actions.setdefault(action["at_ns"] / 1e9, []).append(text)
    rows = [["stage", "from", "to", "goodput", *names, "after"]]
    for stage in summary["stages"]:
        known = stage["goodput_bps"] is not None
        rows.append(
            [
                str(stage["stage"]),
                f"{stage['start_s']:g} s",
                f"{stage['end_s']:g} s",
                _rate(stage["goodput_bps"]),
                *(_rate(stage["links"].get(name, 0.0) if known else None) for name in names),
                ", ".join(actions.get(stage["start_s"], [])),
            ]
        )
    return rows


def _rate(bps: float | None) -> str:
    return "too short" if bps is None else format_rate(bps)


def _settled(run: Run) -> list[str]:
    """Return the line that says what goodput leaves out; none where it leaves out nothing."""
    left_out_ns = settle_ns(run)
    return [f"goodput leaves out the first {format_duration(left_out_ns)}"] if left_out_ns else []


def _comparison(run: Run) -> str:
    rows = comparisons(run)
    return _beside_report(run, "this run", [(row, _rate(row.measured_bps)) for row in rows])


def _beside_report(
    run: Run, whose: str, values: Sequence[tuple[Comparison | MeanComparison, str]]
) -> str:
    """Return what the report gives beside what was measured: what it measured, could carry, saw."""
    parts = [
        _beside(
            "Beside the 2012 report",
            (whose, "2012"),
            [(row, measured) for row, measured in values if row.kind != "capacity"],
        ),
        _beside(
            "Beside what the links could carry, by the 2012 report; it measured none of these",
            (whose, "could carry"),
            [(row, measured) for row, measured in values if row.kind == "capacity"],
        ),
    ]
    findings = run.scenario["report"].get("findings", ())
    if findings:
        lines = ["What happened in 2012"]
        for finding in findings:
            when = "" if finding["stage"] is None else f"stage {finding['stage']}: "
            lines += wrap(
                f"{when}{finding['text']} ({finding['source']})",
                text_width(),
                initial_indent="  ",
                subsequent_indent="    ",
            )
        parts.append("\n".join(lines))
    return "\n\n".join(part for part in parts if part)


def _beside(
    title: str,
    headings: tuple[str, str],
    values: Sequence[tuple[Comparison | MeanComparison, str]],
) -> str:
    rows = [["", *headings, "where"]]
    for row, measured in values:
        where = f"{row.source}; {row.note}" if row.note else row.source
        rows.append([row.what, measured, format_rate(row.report_bps), where])
    return f"{title}\n{columns(rows)}" if values else ""


def _verdict(run: Run) -> str:
    verdicts: list[Check | LatencyCheck] = [*checks(run), *latency_checks([run])]
    if not verdicts:
        return ""
    judged = [check for check in verdicts if check.outcome in ("met", "missed")]
    missed = sum(check.outcome == "missed" for check in judged)
    if not judged:
        head = "Verdict: none, the run was too short to judge"
    elif missed:
        head = f"Verdict: {missed} of {len(judged)} expectations not met"
    else:
        head = f"Verdict: all {len(judged)} expectations met"
    if judged and len(judged) < len(verdicts):
        head += f" ({len(verdicts) - len(judged)} more could not be judged)"
    return "\n".join([head, *(f"  {check.text}" for check in verdicts)])


def _lesson(run: Run) -> str:
    lesson = run.scenario.get("lesson", "")  # runs of earlier versions have none
    return f"What one learns\n{_indented(lesson)}" if lesson else ""


def _indented(text: str) -> str:
    return "\n".join(wrap(text, text_width(), initial_indent="  ", subsequent_indent="  "))


def _notes(run: Run) -> str:
    notes = run.metadata.get("notes", [])
    return "\n".join(["Notes", *(f"  {note}" for note in notes)]) if notes else ""


def describe_runs(runs: Sequence[Run]) -> str:
    """Return the text about runs of one scenario with different seeds."""
    used = valid_ones(runs)
    parts = ["\n".join(_runs_heading(runs, used))]
    if used:
        summaries = [summarise(run) for run in used]
        parts += [
            *_limits(mean_limits([run_limits(run) for run in used])),
            "Flows\n" + columns(_mean_flow_rows(used, summaries), left=2),
            *mean_applications_text(mean_quantities(used)),
            "Links\n" + columns(_mean_link_rows(summaries), left=2),
        ]
        if len(summaries[0]["stages"]) > 1:
            parts.append("Stages\n" + columns(_mean_stage_rows(used, summaries[0])))
        judged = (_mean_comparison(used), _mean_verdict(used), _lesson(runs[0]))
        parts += [part for part in judged if part]
    notes = Counter(note for run in runs for note in run.metadata.get("notes", []))
    if notes:
        times = [f"  {note} ({count} of {len(runs)} runs)" for note, count in notes.items()]
        parts.append("\n".join(["Notes", *times]))
    return "\n\n".join(parts)


def _runs_heading(runs: Sequence[Run], used: Sequence[Run]) -> list[str]:
    scenario = runs[0].scenario
    seeds = [run.scenario["seed"] for run in runs]
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    many = "one run" if len(runs) == 1 else f"{len(runs)} runs"
    lines = [
        f"{scenario['name']}: {scenario['title']}" if scenario["title"] else scenario["name"],
        f"{many} on {runs[0].metadata['testbed']}, {which}; mean ± 95 % confidence (Student's t)",
        *_settled(runs[0]),
    ]
    if len(used) == len(runs):
        lines.append("valid: every run is what the scenario asked for")
    else:
        lines.append(f"NOT VALID and left out: {len(runs) - len(used)} of {many}")
        lines += [f"  {reason}" for reason in invalid_reasons(runs)]
    if used and all(
        value is None or value.margin is None for value in mean_quantities(used).values()
    ):
        lines.append("one observation: no interval follows from it")
    return lines


def _mean(value: Estimate | None, missing: str = "too short") -> str:
    return missing if value is None else with_margin(format_rate, value)


def _mean_flow_rows(used: Sequence[Run], summaries: Sequence[dict[str, Any]]) -> list[list[str]]:
    means = {quantity.name: (quantity, value) for quantity, value in mean_quantities(used).items()}
    sized = any(name.startswith("time of ") for name in means)
    rows = [["flow", "protocol", "goodput", *(["time"] if sized else []), "intact"]]
    for at, flow in enumerate(summaries[0]["flows"]):
        protocols = sorted({summary["flows"][at]["protocol"] for summary in summaries})
        intact = [summary["flows"][at]["intact"] for summary in summaries]
        row = [flow["name"], ", ".join(protocols), _mean(means[f"goodput of {flow['name']}"][1])]
        if sized:
            quantity, value = means.get(f"time of {flow['name']}", (None, None))
            missing = "" if quantity is None else "not done in time"
            row.append(
                missing if quantity is None or value is None else with_margin(quantity.text, value)
            )
        every = "every byte" if all(intact) else "NO" if False in intact else "not checked"
        rows.append([*row, every])
    return rows


def _mean_link_rows(summaries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = [["link", "driver", "configured", "mean", "used"]]
    for at, link in enumerate(summaries[0]["links"]):
        configured = link["configured_bps"]
        mean, used = (
            mean_of([summary["links"][at][key] for summary in summaries])
            for key in ("mean_bps", "utilisation")
        )
        rows.append(
            [
                link["name"],
                link["driver"] or "not built",
                "unlimited" if configured is None else format_rate(configured),
                _mean(mean),
                _used(None if used is None else used.mean),
            ]
        )
    return rows


def _mean_stage_rows(used: Sequence[Run], summary: dict[str, Any]) -> list[list[str]]:
    """Return the table of one run's stages with the means of all in it."""
    heading, *rows = _stage_rows(used[0], summary)
    names = [None, *(link["name"] for link in summary["links"])]
    for row, means in zip(rows, stage_means(used), strict=True):
        row[3 : 3 + len(names)] = [_mean(means[name]) for name in names]
    return [heading, *rows]


def _mean_comparison(used: Sequence[Run]) -> str:
    rows = mean_comparisons(used)
    return _beside_report(used[0], "these runs", [(row, _mean(row.measured)) for row in rows])


def _mean_verdict(used: Sequence[Run]) -> str:
    verdicts: list[MeanCheck | LatencyCheck] = [*mean_checks(used), *latency_checks(used)]
    if not verdicts:
        return ""
    counts = Counter(check.outcome for check in verdicts)
    head = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    lines = [f"Verdict on the means, of {len(verdicts)} expectations: {head}"]
    lines += [f"  {check.text}" for check in verdicts]
    if counts["undecided"]:
        lines.append(
            "  undecided: the interval reaches across the limit; more runs make it narrower"
        )
    return "\n".join(lines)

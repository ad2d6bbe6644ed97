"""A finished run as text: flows, links, stages and the verdict."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from mptcplab.cli.columns import columns
from mptcplab.report.verdict import Comparison, checks, comparisons
from mptcplab.results.debug_log import FILE as DEBUG_LOG
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise
from mptcplab.units import format_rate, format_size


def describe(run: Run) -> str:
    """Return the text about a run, without its folder and figure."""
    summary = summarise(run)
    parts = [
        _heading(run, summary),
        "Flows\n" + columns(_flow_rows(summary), left=2),
        "Links\n" + columns(_link_rows(summary), left=2),
    ]
    if len(summary["stages"]) > 1:
        parts.append("Stages\n" + columns(_stage_rows(run, summary)))
    parts.extend(part for part in (_comparison(run), _verdict(run), _notes(run)) if part)
    return "\n\n".join(parts)


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
                format_rate(flow["goodput_bps"]),
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
    rows = [["link", "driver", "configured", "mean"]]
    for link in summary["links"]:
        configured = link["configured_bps"]
        rows.append(
            [
                link["name"],
                link["driver"] or "not built",
                "unlimited" if configured is None else format_rate(configured),
                format_rate(link["mean_bps"]),
            ]
        )
    return rows


def _stage_rows(run: Run, summary: dict[str, Any]) -> list[list[str]]:
    names = [link["name"] for link in summary["links"]]
    actions: dict[float, list[str]] = {}
    for action in run.scenario["timeline"]:
        text = action["label"] or f"{action['target']} {action['verb']}"
        actions.setdefault(action["at_ns"] / 1e9, []).append(text)
    rows = [["from", "to", "goodput", *names, "after"]]
    for stage in summary["stages"]:
        rows.append(
            [
                f"{stage['start_s']:g} s",
                f"{stage['end_s']:g} s",
                format_rate(stage["goodput_bps"]),
                *(format_rate(stage["links"].get(name, 0.0)) for name in names),
                ", ".join(actions.get(stage["start_s"], [])),
            ]
        )
    return rows


def _comparison(run: Run) -> str:
    values = comparisons(run)
    parts = [
        _beside(
            "Beside the 2012 report", "2012", [row for row in values if row.kind != "capacity"]
        ),
        _beside(
            "Beside what the links could carry, by the 2012 report; it measured none of these",
            "could carry",
            [row for row in values if row.kind == "capacity"],
        ),
    ]
    findings = run.scenario["report"].get("findings", ())
    if findings:
        lines = ["What happened in 2012"]
        for finding in findings:
            when = "" if finding["stage"] is None else f"stage {finding['stage'] + 1}: "
            lines += wrap(
                f"{when}{finding['text']} ({finding['source']})",
                98,
                initial_indent="  ",
                subsequent_indent="    ",
            )
        parts.append("\n".join(lines))
    return "\n\n".join(part for part in parts if part)


def _beside(title: str, column: str, values: list[Comparison]) -> str:
    rows = [["", "this run", column, "where"]]
    for row in values:
        measured = "too short" if row.measured_bps is None else format_rate(row.measured_bps)
        where = f"{row.source}; {row.note}" if row.note else row.source
        rows.append([row.what, measured, format_rate(row.report_bps), where])
    return f"{title}\n{columns(rows)}" if values else ""


def _verdict(run: Run) -> str:
    verdicts = checks(run)
    if not verdicts:
        return ""
    judged = [check for check in verdicts if check.measured_bps is not None]
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


def _notes(run: Run) -> str:
    notes = run.metadata.get("notes", [])
    return "\n".join(["Notes", *(f"  {note}" for note in notes)]) if notes else ""

"""A judgement as text: a row for each pair of addresses, what is in the way, and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from mptcplab.hosts.examine import Examination
from mptcplab.hosts.facts import Facts, Probe
from mptcplab.hosts.judge import ANYWHERE
from mptcplab.hosts.judgement import Count, Fix, Judgement, Obstacle, Outcome, Row

_WIDTH: Final = 100
_ANY: Final = "any (default route)"


def explained(examination: Examination) -> Iterator[str]:
    """Yield the lines of the explanation."""
    facts, judgement = examination.facts, examination.judgement
    yield from _host(facts)
    if judgement.probe is not None:
        yield _probed(judgement.probe)
    for obstacle in judgement.general:
        yield ""
        yield from _obstacle(obstacle, "", "Every join: ")
    if judgement.rows:
        yield ""
        yield from _table(judgement.rows)
    if judgement.probe is None:
        for obstacle in judgement.serving:
            yield ""
            yield from _obstacle(obstacle, "", "As a server: ")
    if judgement.remarks:
        yield ""
        for remark in judgement.remarks:
            yield from _wrapped(remark.text, "note: ")
    for text in judgement.unread:
        yield from _wrapped(text, "not read: ")
    yield ""
    yield from _wrapped(_sum(judgement), "")


def _host(facts: Facts) -> Iterator[str]:
    enabled = {"1": "on", "0": "off"}.get(facts.sysctls.get("net.mptcp.enabled", ""), "not there")
    manager = facts.sysctls.get("net.mptcp.path_manager") or {"0": "kernel", "1": "userspace"}.get(
        facts.sysctls.get("net.mptcp.pm_type", ""), "unknown"
    )
    yield f"Linux {facts.kernel}: MPTCP is {enabled}, path manager {manager}"
    limits = facts.limits
    if limits is not None:
        yield (
            f"limits: {limits.subflows} subflows beyond the first, {limits.add_addr_accepted} "
            "announced addresses joined"
        )
    for endpoint in facts.endpoints or ():
        device = facts.interface_name(endpoint.interface_index)
        yield f"endpoint {endpoint.identifier}: {endpoint}" + (f" dev {device}" if device else "")
    if facts.endpoints == ():
        yield "endpoints: none"


def _probed(probe: Probe) -> str:
    words = {
        "mptcp": f"MPTCP, {len(probe.established)} "
        f"{'subflow' if len(probe.established) == 1 else 'subflows'} after "
        f"{probe.waited_ms / 1000:.1f} s",
        "fallback": "plain TCP, though MPTCP was asked for",
        "": "none: " + probe.error,
    }
    return f"one connection to {probe.remote} port {probe.port}: {words[probe.protocol]}"


def _table(rows: Iterable[Row]) -> Iterator[str]:
    cells = [
        (
            str(row.local) if row.local is not None else "?",
            row.interface or "?",
            _remote(row),
            row,
        )
        for row in rows
    ]
    heads = ("from", "interface", "to")
    widths = [max(len(heads[i]), *(len(str(cell[i])) for cell in cells)) for i in range(3)]
    lines = [(*heads, None), *cells]
    for *texts, row in lines:
        start = "  ".join(f"{text:<{width}}" for text, width in zip(texts, widths, strict=True))
        if row is None:
            yield start + "  subflow"
            continue
        yield f"{start}  {_outcome(row)}"
        for obstacle in row.obstacles:
            yield from _obstacle(obstacle, "    ", "")
        if row.note:
            yield from _wrapped(row.note, "    ")


def _outcome(row: Row) -> str:
    if row.outcome is Outcome.FAILED and row.obstacles:
        return f"{row.outcome}: {row.obstacles[0].step}"
    return str(row.outcome)


def _remote(row: Row) -> str:
    if row.remote is None:
        return "an announced address"
    return _ANY if row.remote in ANYWHERE else str(row.remote)


def _obstacle(obstacle: Obstacle, indent: str, head: str) -> Iterator[str]:
    yield from _wrapped(f"{head}{obstacle.why}", indent)
    yield from _wrapped(obstacle.remedy, f"{indent}  to do: ")


def _wrapped(text: str, start: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * (len(start) - len(start.lstrip()) + 4),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _sum(judgement: Judgement) -> str:
    counts = [each for each in judgement.counts if each.expected or each.subflows]
    parts = [_count(each, named=len(counts) > 1) for each in counts]
    verb = "would come" if judgement.probe is None else "came"
    if not parts:
        return "no default route leads anywhere: name a peer."
    if judgement.subflows is None:
        return f"{', '.join(parts)}; name a peer."
    text = f"{', '.join(parts)} {verb}"
    if judgement.healthy:
        return f"{text}: healthy."
    more = " --fix prints the commands that mend it." if judgement.fixes else ""
    return f"{text}.{more}"


def _count(count: Count, *, named: bool) -> str:
    addresses = "usable address" if count.expected == 1 else "usable addresses"
    number = "an unknown number" if count.subflows is None else str(count.subflows)
    subflows = "subflow" if count.subflows == 1 else "subflows"
    version = f"IPv{count.version}: " if named else ""
    return f"{version}{number} {subflows} for {count.expected} {addresses}"


def fix_script(fixes: Iterable[Fix]) -> Iterator[str]:
    """Yield the commands as lines for a shell; what is not for this host is a comment."""
    some = list(fixes)
    here = [fix for fix in some if fix.on == "here"]
    if here:
        yield "# on this host, as root; lost at the next start, or when its address changes"
        for fix in here:
            yield fix.command if fix.complete else f"# fill in what is in capitals: {fix.command}"
    if len(here) < len(some):
        yield "# on the peer, as root"
        for fix in some:
            if fix.on != "here":
                yield f"# {fix.command}"

"""Names that lead nowhere, told together with what else is wrong with a file.

Where values are wrong, nothing is built, and what is built would have told of these only after the
values are mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from mptcplab.scenario.errors import Path, Problems, nearest

Values = dict[str, Any]

_NODES: Final = ("hosts", "switches", "routers")
_LINK_VERBS: Final = ("up", "down", "change")
_FLOW_VERBS: Final = ("start", "stop")


def note_unknown_names(values: Values, problems: Problems) -> None:
    """Note links between, flows of and actions on what the file does not declare.

    Nothing, where a table of names is itself wrong: what is missing in it would be missed in each.
    """
    if not problems.errors:
        return
    wrong = [error.key.split(".") for error in problems.errors]
    broken = {parts[0] for parts in wrong if len(parts) <= 2}
    if not broken.intersection(("generate", *_NODES)):
        nodes = [name for kind in _NODES for name in values[kind]]
        _note(_ends(values), nodes, "host, router or switch", problems)
        _note(_flow_ends(values), list(values["hosts"]), "host", problems)
    if not broken.intersection(("generate", "links")):
        _note(_targets(values, _LINK_VERBS), list(values["links"]), "link", problems)
    if not broken.intersection(("generate", "flows")):
        _note(_targets(values, _FLOW_VERBS), list(values["flows"]), "flow", problems)


def unknown_name(what: str, name: str, known: list[str]) -> tuple[str, str, str]:
    """Return problem, what is expected and a hint, for a name that nothing has."""
    expected = ", ".join(known)
    expected = f"one of {expected}" if known else f"a {what.split(',')[0]} that the file declares"
    return f'there is no {what} "{name}"', expected, nearest(name, known)


def _note(
    names: Iterable[tuple[Path, str]], known: list[str], what: str, problems: Problems
) -> None:
    for path, name in names:
        if name not in known:
            problems.add(path, *unknown_name(what, name, known))


def _ends(values: Values) -> Iterator[tuple[Path, str]]:
    for name, link in values["links"].items():
        for end in link["between"] or ():
            yield ("links", name, "between"), end.partition(":")[0]
    for name, switch in values["switches"].items():
        for end in switch["ports"] or ():
            yield ("switches", name, "ports"), end.partition(":")[0]


def _flow_ends(values: Values) -> Iterator[tuple[Path, str]]:
    for name, flow in values["flows"].items():
        for key in ("from", "to"):
            if flow[key]:
                yield ("flows", name, key), flow[key]


def _targets(values: Values, verbs: Iterable[str]) -> Iterator[tuple[Path, str]]:
    for number, row in enumerate(values["timeline"] or ()):
        for verb in verbs:
            for target in row[verb] or ():
                if ":" not in target:
                    yield ("timeline", str(number), verb), target

"""Whether a scenario may bring code: classes of a user's own as ``module:Class``, BPF objects, and
commands.

A scenario file is data.  Its references to classes are followed only where the user says so: with
``--plugins`` (``plugins=True`` of :func:`mptcplab.scenario.load`) for any module, or for modules of
a folder that the environment variable ``MPTCPLAB_PLUGINS`` names.  Commands and BPF objects need
the former.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Final

from mptcplab.applications.workloads import Command
from mptcplab.scenario.errors import Path, Problems
from mptcplab.scenario.model import Scenario, is_bpf_object

VARIABLE: Final = "MPTCPLAB_PLUGINS"
"""Names folders whose modules any scenario may use, joined by ``:`` as in ``PATH``."""


def trusted_folders() -> tuple[FilePath, ...]:
    """Return the folders that the user's environment names; relative ones do not count."""
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    return tuple(folder for folder in map(FilePath, named) if folder.is_absolute())


def trusted_folder_of(reference: str) -> FilePath | None:
    """Return the folder of the user's that holds the module of ``module:Class``, if one does."""
    parts = reference.partition(":")[0].split(".")
    for folder in trusted_folders():
        place = folder.joinpath(*parts)
        if place.with_name(f"{parts[-1]}.py").is_file() or (place / "__init__.py").is_file():
            return folder
    return None


def check_plugins(scenario: Scenario, problems: Problems) -> None:
    """Note each class that the scenario names and the user has not allowed."""
    for path, name in _references(scenario):
        check_reference(path, name, problems)
    for flow in scenario.flows:
        if isinstance(flow.workload, Command) and flow.workload.command:
            problems.add(
                ("flows", flow.name, "command"),
                f'"{flow.workload.command}" is a program, which no scenario runs unless you say so',
                "--plugins on the command line, if you trust the scenario (plugins=True in Python)",
            )


def check_reference(path: Path, name: str, problems: Problems) -> None:
    """Note that ``name``, where it is ``module:Class``, is not allowed."""
    if ":" in name and trusted_folder_of(name) is None:
        problems.add(
            path,
            f'"{name}" is code, which no scenario runs unless you say so',
            f"--plugins on the command line, if you trust the module {name.partition(':')[0]} "
            f"(plugins=True in Python), or its folder in {VARIABLE}",
        )
    elif path[-1] == "congestion" and is_bpf_object(name):
        problems.add(
            path,
            f'"{name}" is code for the kernel, which no scenario loads unless you say so',
            "--plugins on the command line, if you trust the file (plugins=True in Python)",
        )


def _references(scenario: Scenario) -> Iterator[tuple[Path, str]]:
    named: list[tuple[Path, str]] = [
        (("flows", flow.name, "congestion"), flow.congestion) for flow in scenario.flows
    ]
    for tunables in scenario.tunables.values():
        named.append((("tunables", "scheduler"), tunables.scheduler))
        named.append((("tunables", "path_manager"), tunables.path_manager))
    yield from dict.fromkeys(named)

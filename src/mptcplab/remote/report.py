"""What is said of a real host before it is used: what it has, and what would be changed on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mptcplab.remote.clocks import compare_clocks
from mptcplab.remote.fleet import Fleet


@dataclass(frozen=True)
class HostReport:
    """One host; ``interfaces`` has the real name of each of the scenario's.

    ``clock_offset_ns`` is by how much its clock of the day is ahead of this machine's, and
    ``clock_error_ns`` how far that may be wrong.
    """

    name: str
    ssh: str
    hostname: str
    kernel: str
    python: str
    management: list[str]
    default_route: list[str]
    interfaces: dict[str, str]
    clock_offset_ns: int
    clock_error_ns: int
    changes: list[str]
    programs: list[str]
    notes: list[str]
    problems: list[str]

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield f"{self.name}  {self.ssh}"
        yield f"  machine     {self.hostname}, Linux {self.kernel}, Python {self.python}"
        kept = dict.fromkeys([*self.management, *self.default_route])
        yield f"  untouched   {', '.join(kept) or 'no interface'}"
        named = (
            real if name == real else f"{real} ({name} in the scenario)"
            for name, real in self.interfaces.items()
        )
        yield f"  used        {', '.join(named) or 'no interface'}"
        yield (
            f"  clock       {self.clock_offset_ns / 1e6:+.3f} ms to this machine's, known to "
            f"{self.clock_error_ns / 1e6:.3f} ms"
        )
        if self.problems:
            yield "  problems"
            yield from (f"    {problem}" for problem in self.problems)
        elif not self.changes:
            yield "  changes     none"
        else:
            yield "  changes, undone at the end"
            yield from (f"    {change}" for change in self.changes)
        if self.programs:
            yield "  programs, ended with the run"
            yield from (f"    {program}" for program in self.programs)
        if self.notes:
            yield "  notes"
            yield from (f"    {note}" for note in self.notes)


def report_hosts(fleet: Fleet) -> list[HostReport]:
    """Return what is to be said of each host of a fleet that has been looked at."""
    reports = []
    for name, facts in fleet.facts.items():
        host = fleet.set_ups[name]
        clock = compare_clocks(fleet.lines[name])
        reports.append(
            HostReport(
                name=name,
                ssh=fleet.scenario.ssh[name],
                hostname=facts["hostname"],
                kernel=facts["kernel"],
                python=facts["python"],
                management=facts["management"],
                default_route=facts["defaults"],
                interfaces=host.interfaces,
                clock_offset_ns=clock.unix_offset_ns,
                clock_error_ns=clock.error_ns,
                changes=[str(step) for step in host.steps],
                programs=host.programs,
                notes=host.notes,
                problems=[*host.problems, *fleet.standing_problems(name)],
            )
        )
    return reports

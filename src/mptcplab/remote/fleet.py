"""All real hosts of a scenario: connected, looked at, set up and, at the end, as they were."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from mptcplab.linux.kernel.mptcp_endpoints import ENDPOINTS_MAX
from mptcplab.linux.lab import endpoint_plan
from mptcplab.network.topology import Host
from mptcplab.remote.answers import FACTS, UNDONE, AnswerError
from mptcplab.remote.errors import HostsError, HostsInputError
from mptcplab.remote.netem import netem_ends
from mptcplab.remote.set_up import (
    Facts,
    HostSetUp,
    Step,
    needed_programs,
    needed_sysctls,
    set_up,
)
from mptcplab.remote.ssh import AgentLine, SshThread, controller_name, unpack_target
from mptcplab.scenario.model import Scenario

T = TypeVar("T")


def hosts_of(scenario: Scenario) -> list[Host]:
    """Return the hosts at which flows end; HostsInputError where one has no ``ssh``."""
    ends = {name for flow in scenario.flows for name in (flow.source, flow.destination)}
    hosts = [host for host in scenario.topology.hosts if host.name in ends]
    for host in hosts:
        if host.name not in scenario.ssh:
            raise HostsInputError(
                f"{scenario.source}: hosts.{host.name}.ssh: is missing; expected where the machine "
                f"is, such as --set hosts.{host.name}.ssh=user@address"
            )
    return hosts


class Fleet:
    """The hosts of a scenario with their agents; a context manager that lets them go."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.hosts = hosts_of(scenario)
        self.lines: dict[str, AgentLine] = {}
        self.facts: dict[str, Facts] = {}
        self.set_ups: dict[str, HostSetUp] = {}
        self._standing: list[str] = []
        """The hosts that stay as they are set up when this ends."""
        self._targets = {
            host.name: unpack_target(f"hosts.{host.name}.ssh", scenario.ssh[host.name])
            for host in self.hosts
        }
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            thread = opened.enter_context(SshThread())
            for name, target in self._targets.items():
                line = AgentLine(name, target, thread)
                self.lines[name] = line
                opened.callback(self._close, line)
                line.open()
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def _close(self, line: AgentLine) -> None:
        line.close(leave=line.name not in self._standing)

    def look(self) -> None:
        """Take in what each host says of itself, and work out what is to be done to it.

        HostsError where hosts tell nonsense; what else stands in the way is in their set-ups.
        """
        plans = endpoint_plan.plan(
            self.scenario.topology,
            self.scenario.tunables,
            endpoint_plan.scenario_traffic(self.scenario),
            ENDPOINTS_MAX,
            endpoint_plan.scenario_wishes(self.scenario),
        )
        for host in self.hosts:
            facts = self._facts(host, needed_sysctls(self.scenario, host))
            facts = self._facts(host, needed_sysctls(self.scenario, host, facts))
            self.facts[host.name] = facts
            self.set_ups[host.name] = set_up(self.scenario, host, plans[host.name], facts)

    def problems(self) -> list[str]:
        """Return what stands in the way of the set-up, each with its host."""
        return [
            f"{name}: {problem}"
            for name, host in self.set_ups.items()
            for problem in (*host.problems, *self.standing_problems(name))
        ]

    def standing_problems(self, name: str) -> list[str]:
        """Return what a set-up that stands on a host keeps from being done."""
        journal = self.facts[name]["journal"]
        if journal is None or not journal["standing"]:
            return []
        return [
            f"a set-up stands there, by {journal['who']} since {journal['since']}; take it down "
            f"first: mptcplab hosts {self.scenario.source} down"
        ]

    def journal(self, name: str) -> dict[str, Any] | None:
        """Return what stands on a host, or was left there by an agent that was killed."""
        line = self.lines[name]
        facts = checked(line, FACTS, line.ask("facts", sysctls=[]).get("facts"), "facts")
        journal: dict[str, Any] | None = facts["journal"]
        return journal

    def notes(self) -> list[str]:
        """Return what is not as the scenario has it, each with its host."""
        return [f"{name}: {note}" for name, host in self.set_ups.items() for note in host.notes]

    def set_up(self) -> None:
        """Do all that the plans say, after what an agent that was killed has left is undone.

        HostsError where something stands in the way, or a host refuses; what is done by then is
        undone when the hosts are let go.
        """
        problems = self.problems()
        if problems:
            raise HostsError("\n".join(problems))
        self._begin()
        if any(facts["journal"] is not None for facts in self.facts.values()):
            self.look()  # as it is without what was left
        for name, host in self.set_ups.items():
            self.change(name, host.steps)

    def undo(self) -> dict[str, int]:
        """Undo what stands, or was left, on each host; return how many changes by host."""
        return {name: self._undone(line, "undo") for name, line in self.lines.items()}

    def leave_standing(self) -> None:
        """Let the hosts stay as they are set up when this ends.

        HostsError where one does not; it says which stay all the same.
        """
        for name, line in self.lines.items():
            try:
                line.ask("stand", who=controller_name())
            except HostsError as error:
                if not self._standing:
                    raise
                raise HostsError(
                    f"{error}; still set up: {', '.join(self._standing)}; to undo that: "
                    f"mptcplab hosts {self.scenario.source} down"
                ) from error
            self._standing.append(name)

    def change(self, host: str, steps: Iterable[Step]) -> None:
        """Carry out steps on a host, in their order; HostsError where it refuses one."""
        messages = [step.message() for step in steps]
        if messages:
            self.lines[host].ask("change", steps=messages)

    def change_all(self, steps: Mapping[str, Iterable[Step]]) -> None:
        """Carry out steps on several hosts at the same time; HostsError where one refuses."""
        asked = {
            name: self.lines[name].begin("change", steps=messages)
            for name, each in steps.items()
            if (messages := [step.message() for step in each])
        }
        for name, future in asked.items():
            self.lines[name].answered(future, "change")

    def ask_all(self, do: str, **values: Any) -> dict[str, dict[str, Any]]:
        """Ask all hosts the same at the same time; HostsError where one does not answer."""
        asked = {name: line.begin(do, **values) for name, line in self.lines.items()}
        return {name: self.lines[name].answered(future, do) for name, future in asked.items()}

    def _begin(self) -> None:
        since = time.strftime("%Y-%m-%d %H:%M:%S%z")
        for line in self.lines.values():
            self._undone(line, "begin", who=controller_name(), since=since)

    def _undone(self, line: AgentLine, do: str, **values: Any) -> int:
        undone = checked(line, UNDONE, line.ask(do, **values), do)
        count: int = undone["undone"]
        return count

    def _facts(self, host: Host, sysctls: list[str]) -> Facts:
        line = self.lines[host.name]
        answer = line.ask(
            "facts",
            sysctls=sysctls,
            programs=needed_programs(self.scenario, host),
            netem=bool(netem_ends(self.scenario, host.name)),
        )
        facts: Mapping[str, Any] = checked(line, FACTS, answer.get("facts"), "facts")
        return facts


def checked(line: AgentLine, check: Callable[[Any, str], T], value: Any, what: str) -> T:
    """Return an answer that has been checked; HostsError where it is not what it may be."""
    try:
        return check(value, what)
    except AnswerError as error:
        raise HostsError(f"{line.name}: its agent answers nonsense: {error}") from error

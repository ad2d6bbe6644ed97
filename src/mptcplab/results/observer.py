"""What a testbed tells whoever is watching while a run is under way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping


class Observer(ABC):
    """Hears of a run's progress; every call is short, and none may raise."""

    @abstractmethod
    def phase(self, name: str) -> None:
        """Say what the testbed is about to do: "building", "verifying", "measuring", ..."""

    @abstractmethod
    def tick(
        self,
        time_ns: int,
        flows_bps: Mapping[str, float],
        links_bps: Mapping[str, tuple[float, float]],
        rtt_ns: Mapping[str, int | None],
    ) -> None:
        """Report one interval: goodput by flow; (forward, backward) rate and RTT by link."""

    @abstractmethod
    def event(self, time_ns: int, text: str) -> None:
        """Report something that happened: an action of the timeline, a subflow that joined."""


class Silent(Observer):
    """Hears everything and says nothing."""

    def phase(self, name: str) -> None:
        """Do nothing."""

    def tick(
        self,
        time_ns: int,
        flows_bps: Mapping[str, float],
        links_bps: Mapping[str, tuple[float, float]],
        rtt_ns: Mapping[str, int | None],
    ) -> None:
        """Do nothing."""

    def event(self, time_ns: int, text: str) -> None:
        """Do nothing."""

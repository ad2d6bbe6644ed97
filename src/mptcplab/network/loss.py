"""Which packets a wire loses, drawn as the number of packets until the next loss.

A wire that loses each packet with probability p lets a geometric number of packets through
between two losses. Drawing that number instead of one number per packet is exact and costs
nothing while nothing is lost, which is what lets whole trains of packets pass in one step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import log, log1p
from random import Random
from typing import Final

from mptcplab.network.impairments import GilbertElliott
from mptcplab.network.parameters import ChannelParameters

_NO_LOSS: Final = 1 << 60
"""So many packets never pass."""


class LossModel(ABC):
    """Draws the packets that get lost."""

    __slots__ = ()

    @abstractmethod
    def next_gap(self) -> int:
        """How many packets pass, from now on, before the next one is lost."""


class NoLoss(LossModel):
    """Nothing is lost."""

    __slots__ = ()

    def next_gap(self) -> int:
        """For ever."""
        return _NO_LOSS


class RandomLoss(LossModel):
    """Every packet is lost with the same probability, independently of others."""

    __slots__ = ("_probability", "_random")

    def __init__(self, probability: float, random: Random) -> None:
        self._probability = probability
        self._random = random

    def next_gap(self) -> int:
        """A geometric number."""
        return geometric(self._probability, self._random)


class BurstLoss(LossModel):
    """The Gilbert-Elliott chain, from one change of state to the next."""

    __slots__ = ("_bad", "_model", "_random", "_stay")

    def __init__(self, model: GilbertElliott, random: Random) -> None:
        self._model = model
        self._random = random
        self._bad = False
        self._stay = geometric(model.good_to_bad, random)  # packets until the state changes

    def next_gap(self) -> int:
        """Walk through the states until one of them loses a packet."""
        model = self._model
        if model.mean_loss == 0.0:
            return _NO_LOSS
        passed = 0
        while passed < _NO_LOSS:
            gap = geometric(model.loss_in_bad if self._bad else model.loss_in_good, self._random)
            if gap < self._stay:
                self._stay -= gap + 1
                return passed + gap
            passed += self._stay
            self._bad = not self._bad
            leave = model.bad_to_good if self._bad else model.good_to_bad
            self._stay = 1 + geometric(leave, self._random)
        return _NO_LOSS


class ListedLoss(LossModel):
    """The packets of a list are lost, which makes an experiment of one loss repeatable."""

    __slots__ = ("_next", "_numbers", "_passed")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = sorted(set(numbers))
        self._next = 0
        self._passed = 0  # how many packets were offered before the gap to come

    def next_gap(self) -> int:
        """Up to the next number of the list."""
        if self._next == len(self._numbers):
            return _NO_LOSS
        number = self._numbers[self._next]
        gap = number - self._passed
        self._passed = number + 1
        self._next += 1
        return gap


def geometric(probability: float, random: Random) -> int:
    """How many times an event of this probability fails to happen before it does."""
    if probability <= 0.0:
        return _NO_LOSS
    if probability >= 1.0:
        return 0
    gap = log(1.0 - random.random()) / log1p(-probability)
    return int(gap) if gap < _NO_LOSS else _NO_LOSS


def loss_model(parameters: ChannelParameters, random: Random) -> LossModel:
    """The loss that the parameters ask for."""
    if parameters.lost_packets:
        return ListedLoss(parameters.lost_packets)
    if parameters.burst_loss is not None:
        return BurstLoss(parameters.burst_loss, random)
    if parameters.loss > 0.0:
        return RandomLoss(parameters.loss, random)
    return NoLoss()

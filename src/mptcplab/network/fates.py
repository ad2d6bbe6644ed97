"""Which packets something happens to on a wire: lost, damaged, doubled, or ahead of the others.

Each of these is drawn as the number of packets until the next one that it happens to
(`network.loss`), so that whole trains pass in one step while nothing does.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.network.loss import LossModel, NoLoss, RandomLoss, loss_model
from mptcplab.network.parameters import ChannelParameters

if TYPE_CHECKING:
    from mypy_extensions import i64

LOST: Final = 1
CORRUPT: Final = 2
DUPLICATE: Final = 4
EARLY: Final = 8
"""What may happen to a packet; several may, but a lost one is that alone."""


class Fates:
    """Draws the packets that something happens to.

    `random` draws losses; each of the others has a source of its own, so that the same packets are
    lost whatever else happens.
    """

    __slots__ = ("_drawn", "_gaps", "_models", "_random", "_seed", "fate")

    def __init__(self, parameters: ChannelParameters, random: Random) -> None:
        self.fate: i64 = 0
        """What happens to the packet behind the gap that `next_gap` returned last."""
        self._random = random
        self._seed = ""
        self._drawn: dict[str, Random] = {}
        self._models: list[tuple[int, LossModel]] = []
        self._gaps: list[int] = []
        self.configure(None, parameters)

    def configure(self, old: ChannelParameters | None, parameters: ChannelParameters) -> bool:
        """Take other parameters; say whether the next packet is to be drawn anew."""
        if old is not None and _drawn_from(old) == _drawn_from(parameters):
            return False
        models: list[tuple[int, LossModel]] = [(LOST, loss_model(parameters, self._random))]
        for fate, name, probability in (
            (CORRUPT, "corrupt", parameters.corrupt),
            (DUPLICATE, "duplicate", parameters.duplicate),
            (EARLY, "reorder", parameters.reorder),
        ):
            if probability > 0.0:
                models.append((fate, RandomLoss(probability, self._source(name))))
        if len(models) > 1 and isinstance(models[0][1], NoLoss):
            del models[0]
        self._models = models
        self._gaps = [model.next_gap() for _, model in models]
        return True

    def first_gap(self) -> int:
        """Return how many packets pass before something happens to one."""
        return self._next(min(self._gaps))

    def next_gap(self) -> int:
        """Return the same of those behind the packet that something has happened to."""
        models, gaps = self._models, self._gaps
        if len(models) == 1:
            return models[0][1].next_gap()
        passed = min(gaps)
        for place, (_, model) in enumerate(models):
            gaps[place] = model.next_gap() if gaps[place] == passed else gaps[place] - passed - 1
        return self._next(min(gaps))

    def _next(self, gap: int) -> int:
        fate = 0
        for place, (happens, _) in enumerate(self._models):
            if self._gaps[place] == gap:
                fate |= happens
        self.fate = LOST if fate & LOST else fate
        return gap

    def _source(self, name: str) -> Random:
        if not self._seed:
            copy = Random()
            copy.setstate(self._random.getstate())  # the losses to be drawn stay what they are
            self._seed = str(copy.random())
        if name not in self._drawn:
            self._drawn[name] = Random(f"{name}, seed {self._seed}")
        return self._drawn[name]


def _drawn_from(parameters: ChannelParameters) -> tuple[object, ...]:
    return (
        parameters.loss,
        parameters.burst_loss,
        parameters.lost_packets,
        parameters.corrupt,
        parameters.duplicate,
        parameters.reorder,
    )

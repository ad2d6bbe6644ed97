"""From plans to boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from mptcplab.middleboxes.box import Middlebox
from mptcplab.middleboxes.chain import Chain
from mptcplab.middleboxes.firewall import Firewall
from mptcplab.middleboxes.nat import Nat
from mptcplab.middleboxes.options import Drop, Strip
from mptcplab.middleboxes.resegment import Merge, Split
from mptcplab.middleboxes.rewrite import Rewrite
from mptcplab.middleboxes.sequence import RandomiseSequence
from mptcplab.network.middlebox import MiddleboxPlan

_KINDS: Final[dict[str, Callable[[MiddleboxPlan], Middlebox]]] = {
    "nat": Nat,
    "firewall": Firewall,
    "strip": Strip,
    "drop": Drop,
    "blackhole": Drop,
    "rewrite": Rewrite,
    "split": Split,
    "merge": Merge,
}


def make_box(plan: MiddleboxPlan, seed: int = 0) -> Middlebox:
    """Return the box of a plan; what is random about it follows from ``seed``."""
    if plan.kind == "randomise-sequence":
        return RandomiseSequence(plan, Random(f"{plan.target}, seed {seed}"))
    return _KINDS[plan.kind](plan)


def make_chain(plans: Sequence[MiddleboxPlan], seed: int = 0) -> Chain:
    """Return the boxes of one end of a link, that farthest from the link first."""
    return Chain([make_box(plan, seed) for plan in plans])

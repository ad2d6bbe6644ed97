"""What a first run says of an installation, where the run itself may have been disturbed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_BUSY: Final = re.compile(
    r"\(tolerance "  # a round trip, a rate or an emulator's lateness off what was asked for
    r"|^the sampler was late by "
    r"|^(\S+: )?(the CPU|its emulator) was the limit"
)
"""Reasons for which a run is invalid that a machine with other work to do gives; they are those of
``linux.measure.verify`` and ``linux.testbed``."""


def judge(metadata: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether the installation works, and a text that says so, from a run's metadata.

    It works where the run is valid, and where nothing but timing was wrong: then the testbed was
    built, every connection was MPTCP and every byte that arrived was right, but the rates are not
    to be relied on.
    """
    reasons: list[str] = metadata["invalid_reasons"]
    if metadata["valid"]:
        return True, "mptcplab is installed and works."
    listed = "\n".join(f"  {reason}" for reason in reasons)
    if all(_BUSY.search(reason) for reason in reasons):
        return True, (
            "mptcplab is installed and works: the testbed was built and every connection was "
            "MPTCP.\nThis run was disturbed, by other work on this machine or because the machine "
            f"is too slow for these rates:\n{listed}\nSo it is marked as not valid, and its rates "
            "are not to be relied on; run it again when the machine is less busy."
        )
    return False, (
        f"mptcplab is installed, but this run is not what it should be:\n{listed}\n"
        "A busy machine alone does not explain that; mptcplab doctor says what this machine has."
    )

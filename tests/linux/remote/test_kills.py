"""Runs that are ended unkindly leave nothing on the hosts; the bench script has many more."""

from __future__ import annotations

import random

import pytest
from tests.linux.remote.kills import LONGEST_S, WAYS, end_a_run
from tests.linux.remote.machines import Machines

pytestmark = [pytest.mark.kernel, pytest.mark.program("sshd"), pytest.mark.slow]


@pytest.mark.parametrize("way", list(WAYS))
def test_nothing_is_left(two_machines: Machines, way: str) -> None:
    end_a_run(two_machines, way, random.uniform(0.5, LONGEST_S))


@pytest.mark.parametrize("way", ["controller", "everything"])
def test_nothing_is_left_of_what_has_begun(two_machines: Machines, way: str) -> None:
    end_a_run(two_machines, way, LONGEST_S / 2)

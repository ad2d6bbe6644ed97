"""The machines that most tests here share, and a way to know that nothing is left on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.linux.remote.machines import Machines, machines

from mptcplab.scenario import load

TWO_LINKS: Final = Path(__file__).with_name("two_links.toml")
APPLICATIONS: Final = Path(__file__).with_name("applications.toml")


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two machines with two links of 50 Mb/s."""
    topology = load(TWO_LINKS).topology
    with machines(topology, tmp_path_factory.mktemp("machines")) as result:
        yield result


@pytest.fixture
def untouched(two_machines: Machines) -> Iterator[Machines]:
    """The machines, which have to be as they were, soon after the test."""
    before = two_machines.state()
    yield two_machines
    two_machines.expect(before, within_s=30)

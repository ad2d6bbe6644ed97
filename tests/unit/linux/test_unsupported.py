"""What no kernel offers is refused by the Linux testbed before anything is made."""

from __future__ import annotations

import pytest

from mptcplab.linux.unsupported import UnsupportedError, check_supported
from mptcplab.scenario import load


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hosts.*.stack=ours", 'hosts.bliksem.stack: "ours"'),
        ("tunables.scheduler=redundant", 'tunables.scheduler: "redundant"'),
        ("tunables.scheduler=mine:Own", 'tunables.scheduler: "mine:Own"'),
        ("tunables.path_manager=mine:Own", 'tunables.path_manager: "mine:Own"'),
        ("flows.*.congestion=mine:Own", 'flows.main.congestion: "mine:Own"'),
        ("flows.*.congestion=lia", 'flows.main.congestion: "lia"'),
    ],
)
def test_what_is_of_our_stack_alone_is_refused(override: str, said: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_supported(load("A", overrides=(override,)))
    assert said in str(caught.value)
    assert "or --on simulated" in str(caught.value)


@pytest.mark.parametrize("name", "ABCDEFGH")
def test_the_experiments_are_supported(name: str) -> None:
    check_supported(load(name))

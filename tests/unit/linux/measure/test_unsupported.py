"""What no kernel offers is refused by the Linux testbed before anything is made."""

from __future__ import annotations

import pytest

from mptcplab.linux.measure.unsupported import UnsupportedError, check_standing, check_supported
from mptcplab.scenario import load


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tunables.scheduler=redundant", 'tunables.scheduler: "redundant"'),
        ("tunables.version=0", "tunables.version: 0 on bliksem"),
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


@pytest.mark.parametrize(
    "override",
    [
        "flows.*.congestion=lia",
        "hosts.bliksem.tunables.version=0",
        "hosts.bliksem.tunables.scheduler=redundant",
    ],
)
def test_what_is_of_our_stack_alone_is_for_hosts_that_run_it(override: str) -> None:
    check_supported(load("A", overrides=("hosts.bliksem.stack=ours", override)))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("hosts.*.stack=ours", "flows.*.application=iperf3"), '.application: "iperf3"'),
        (("hosts.bliksem.stack=ours", "flows.*.congestion=bbr"), '.congestion: "bbr"'),
        (("hosts.donder.stack=ours", "tunables.ndiffports=2"), "bliksem.tunables.ndiffports"),
    ],
)
def test_what_our_stack_cannot_do_is_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_supported(load("A", overrides=overrides))
    assert said in str(caught.value)


def test_a_testbed_that_stands_runs_the_kernels_stack() -> None:
    check_standing(load("A").topology)
    with pytest.raises(UnsupportedError, match=r'hosts\.donder\.stack: "ours"'):
        check_standing(load("A", overrides=("hosts.donder.stack=ours",)).topology)


@pytest.mark.parametrize("name", "ABCDEFGH")
def test_the_experiments_are_supported(name: str) -> None:
    check_supported(load(name))

"""What no kernel offers is refused by the Linux testbed before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.linux.kernel.bpf import BpfError
from mptcplab.linux.lab import congestion
from mptcplab.linux.measure import unsupported
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
        ("flows.*.congestion=wvegas", 'flows.main.congestion: "wvegas"'),
        ("flows.*.congestion=olia-draft", 'flows.main.congestion: "olia-draft"'),
    ],
)
def test_what_is_of_our_stack_alone_is_refused(override: str, said: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_supported(load("A", overrides=(override,), plugins=True))
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
        (("hosts.bliksem.stack=ours", "flows.*.congestion=vegas"), '.congestion: "vegas"'),
        (("hosts.donder.stack=ours", "tunables.ndiffports=2"), "bliksem.tunables.ndiffports"),
    ],
)
def test_what_our_stack_cannot_do_is_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_supported(load("A", overrides=overrides))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["lia", "olia", "balia"])
def test_a_machine_without_bpf_is_told_of_before_anything_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(congestion, "try_loading", refuse)
    with pytest.raises(UnsupportedError) as caught:
        check_supported(load("A", overrides=(f"flows.*.congestion={name}",)))
    assert f'flows.main.congestion: "{name}": it takes CAP_BPF' in str(caught.value)
    assert "or --on simulated" in str(caught.value)


def refuse(source: Path) -> None:
    """Be a machine on which BPF is not allowed, or mptcplab was built without clang."""
    raise BpfError("it takes CAP_BPF of the machine itself; root, outside of containers")


def test_a_module_that_the_kernel_lacks_is_told_of_before_anything_is_made() -> None:
    kernel_has = congestion.available()
    name = next(each for each in ("nv", "cdg", "lp", "yeah") if each not in kernel_has)
    with pytest.raises(UnsupportedError, match="this kernel has no such module") as caught:
        check_supported(load("A", overrides=(f"flows.*.congestion={name}",)))
    assert "reno" in str(caught.value)


def test_iperf3_with_buffers_beyond_the_machines_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """iperf3 would say "socket buffer size not set correctly" in the midst of the run."""
    scenario = load("A", overrides=("flows.*.application=iperf3",))
    monkeypatch.setattr(unsupported, "limit_bytes", lambda: 3 * 2**20)
    check_supported(scenario)
    monkeypatch.setattr(unsupported, "limit_bytes", lambda: 3 * 2**20 - 1)
    with pytest.raises(UnsupportedError, match="expected --raise-host-limits"):
        check_supported(scenario)
    check_supported(load("A"))


def test_a_testbed_that_stands_runs_the_kernels_stack() -> None:
    check_standing(load("A").topology)
    with pytest.raises(UnsupportedError, match=r'hosts\.donder\.stack: "ours"'):
        check_standing(load("A", overrides=("hosts.donder.stack=ours",)).topology)


@pytest.mark.parametrize("name", "ABCDEFGH")
def test_the_experiments_are_supported(name: str) -> None:
    check_supported(load(name))

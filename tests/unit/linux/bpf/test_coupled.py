"""The kernel's LIA, OLIA and BALIA compute what our own stack's do."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcplab.linux import bpf
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup
from mptcplab.stack.congestion.olia import Olia

pytestmark = pytest.mark.program("cc")

CONTROLS = ("lia", "olia", "balia")
PACKET = 1 << 40
MOST_PACKETS = 1_000_000
EIGHTH_NS = 125
"""Nanoseconds in an eighth of a microsecond, in which the kernel keeps round-trip times."""


class Given(ctypes.Structure):
    """``struct given`` of coupled_in_process.c."""

    _fields_ = (
        ("window", ctypes.c_uint32),
        ("rtt", ctypes.c_uint32),
        ("mss", ctypes.c_uint32),
        ("since_loss", ctypes.c_uint32),
        ("between_losses", ctypes.c_uint32),
        ("carry", ctypes.c_int64),
        ("in_use", ctypes.c_uint32),
    )


class Outcome(ctypes.Structure):
    """``struct outcome``."""

    _fields_ = (
        ("window", ctypes.c_uint32),
        ("carry", ctypes.c_int64),
        ("ssthresh", ctypes.c_uint32),
    )


@pytest.fixture(scope="module", name="kernel")
def kernel_controls(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Return the kernel's congestion controls, compiled for this machine."""
    library = tmp_path_factory.mktemp("bpf") / "coupled.so"
    source = Path(__file__).with_name("coupled_in_process.c")
    include = f"-I{Path(bpf.__file__).parent}"
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", include, str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.acknowledge.restype = loaded.lose.restype = Outcome
    return loaded


subflow = st.builds(
    Given,
    window=st.integers(2, 20_000),
    rtt=st.integers(8 * 100, 8 * 1_000_000),
    mss=st.sampled_from([536, 1428, 1448, 8948]),
    since_loss=st.integers(1, 1_000_000),
    between_losses=st.integers(1, 1_000_000),
    carry=st.integers(0, PACKET - 1),
    in_use=st.just(MOST_PACKETS),
)
subflows = st.lists(subflow, min_size=1, max_size=6)


def ours(name: str, rows: list[Given]) -> list[CongestionControl]:
    """Return our stack's controls of one connection, in the same state."""
    group = CongestionGroup()
    members = []
    for row in rows:
        member = CONGESTION_CONTROLS[name](row.mss, group)
        member.cwnd_bytes = row.window * row.mss + (row.carry * row.mss >> 40) | 1
        member.ssthresh_bytes = 1
        member.srtt_ns = row.rtt * EIGHTH_NS
        if isinstance(member, Olia):
            member.since_loss_bytes = row.since_loss * row.mss
            member.between_losses_bytes = row.between_losses * row.mss
        members.append(member)
    return members


def copied(rows: list[Given]) -> Any:
    return (Given * len(rows))(*rows)


@pytest.mark.parametrize("name", CONTROLS)
@given(rows=subflows, data=st.data())
def test_windows_grow_as_in_our_stack(
    kernel: ctypes.CDLL, name: str, rows: list[Given], data: st.DataObject
) -> None:
    which = data.draw(st.integers(0, len(rows) - 1), "subflow")
    packets = data.draw(st.integers(1, 44), "packets acknowledged")
    row = rows[which]
    after = kernel.acknowledge(CONTROLS.index(name), copied(rows), len(rows), which, packets)
    grown = after.window - row.window + (after.carry - row.carry) / PACKET
    member = ours(name, rows)[which]
    before_bytes = member.cwnd_bytes
    member.avoid_congestion(packets * row.mss, AckSample())
    expected = (member.cwnd_bytes - before_bytes + member._carry_bytes) / row.mss
    assert grown == pytest.approx(expected, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("name", CONTROLS)
@given(rows=subflows, data=st.data())
def test_a_loss_leaves_what_it_leaves_in_our_stack(
    kernel: ctypes.CDLL, name: str, rows: list[Given], data: st.DataObject
) -> None:
    which = data.draw(st.integers(0, len(rows) - 1), "subflow")
    row = rows[which]
    after = kernel.lose(CONTROLS.index(name), copied(rows), len(rows), which)
    member = ours(name, rows)[which]
    left = member.ssthresh_after_loss(member.cwnd_bytes) / row.mss
    assert after.ssthresh + after.carry / PACKET == pytest.approx(left, rel=1e-3, abs=0.01)
    assert after.ssthresh >= 2


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("in_use", [0, 3])
def test_what_a_sibling_does_not_use_does_not_count(
    kernel: ctypes.CDLL, name: str, in_use: int
) -> None:
    """One whose data are sent stands idle, while another holds what the peer waits for."""
    own = Given(window=4, rtt=80_000, mss=1448, since_loss=9, between_losses=9, in_use=4)
    idle = Given(window=400, rtt=80_000, mss=1448, since_loss=9, between_losses=9, in_use=in_use)
    as_used = Given(window=max(1, in_use), rtt=80_000, mss=1448, since_loss=9, between_losses=9)
    as_used.in_use = as_used.window
    after = kernel.acknowledge(CONTROLS.index(name), copied([own, idle]), 2, 0, 1)
    expected = kernel.acknowledge(CONTROLS.index(name), copied([own, as_used]), 2, 0, 1)
    assert (after.window, after.carry) == (expected.window, expected.carry)
    idle.in_use = idle.window
    suppressed = kernel.acknowledge(CONTROLS.index(name), copied([own, idle]), 2, 0, 1)
    assert after.carry > suppressed.carry or name == "olia"  # which takes from the largest window

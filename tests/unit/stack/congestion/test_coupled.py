"""LIA, OLIA and BALIA against hand-computed values and formulas written out anew."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.times import MS

from mptcplab.stack.congestion.balia import Balia
from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup
from mptcplab.stack.congestion.lia import Lia, lia_alpha
from mptcplab.stack.congestion.olia import Olia, OliaDraft

MSS = 1000


@dataclass
class Path:
    """A path in the units of the papers: segments, milliseconds, segments between losses."""

    window: int
    rtt: int
    distance: int = 0


def controls(kind: type[CongestionControl], paths: list[Path]) -> list[CongestionControl]:
    group = CongestionGroup()
    made = []
    for path in paths:
        control = kind(MSS, group)
        control.cwnd_bytes = path.window * MSS
        control.ssthresh_bytes = MSS
        control.srtt_ns = path.rtt * MS
        if isinstance(control, Olia):
            control.between_losses_bytes = path.distance * MSS
        made.append(control)
    return made


def increase(control: CongestionControl, acked_segments: int = 1000) -> float:
    """Return the growth in segments for one window-limited ACK."""
    before_bytes = control.cwnd_bytes
    control.avoid_congestion(acked_segments * MSS, AckSample())
    return (control.cwnd_bytes - before_bytes) / MSS / acked_segments


paths_strategy = st.lists(
    st.builds(
        Path,
        window=st.integers(2, 5000),
        rtt=st.integers(1, 500),
        distance=st.integers(1, 10**6),
    ),
    min_size=1,
    max_size=5,
)


def test_lia_alpha_by_hand() -> None:
    # Windows 10 and 20, RTT 10 and 40 ms: max(10/100, 20/1600) = 0.1; (1 + 0.5)^2 = 2.25.
    made = controls(Lia, [Path(10, 10), Path(20, 40)])
    assert lia_alpha(made[0].group) == pytest.approx(30 * 0.1 / 2.25)


def test_lia_alpha_of_equal_paths_is_one_over_their_number() -> None:
    # k windows w: alpha = k w (w / r^2) / (k w / r)^2 = 1 / k.
    made = controls(Lia, [Path(30, 25)] * 4)
    assert lia_alpha(made[0].group) == pytest.approx(1 / 4)


def test_lia_never_grows_faster_than_reno() -> None:
    # The slow path has far the larger window: alpha / total exceeds 1 / w of the fast path? No:
    # of the slow one. Here alpha / total = (10/1) / (10 + 10)^2 = 1/40, 1 / w of path 2 = 1/1000.
    made = controls(Lia, [Path(10, 1), Path(1000, 100)])
    assert increase(made[0]) == pytest.approx(1 / 40, rel=1e-3)
    assert increase(made[1]) == pytest.approx(1 / 1000, rel=1e-3)


def test_lia_ignores_subflows_without_a_round_trip_sample() -> None:
    made = controls(Lia, [Path(10, 10), Path(10, 10)])
    made[1].srtt_ns = 0
    assert lia_alpha(made[0].group) == pytest.approx(1.0)
    assert increase(made[0]) == pytest.approx(1 / 10)
    for control in made:
        control.srtt_ns = 0
    assert lia_alpha(made[0].group) == 0.0


def lia_increase(paths: list[Path], index: int) -> Fraction:
    """RFC 6356 in packets, section 4.1, with exact fractions."""
    total = sum(path.window for path in paths)
    best = max(Fraction(path.window, path.rtt**2) for path in paths)
    rates = sum(Fraction(path.window, path.rtt) for path in paths)
    alpha = total * best / rates**2
    return min(alpha / total, Fraction(1, paths[index].window))


@pytest.mark.slow
@given(paths=paths_strategy)
def test_lia_against_exact_fractions(paths: list[Path]) -> None:
    for index in range(len(paths)):
        control = controls(Lia, paths)[index]
        expected = float(lia_increase(paths, index))
        assert increase(control) == pytest.approx(expected, rel=1e-3, abs=2e-6)


def olia_increase(paths: list[Path], index: int, quality: str) -> Fraction:
    """The increase with sets of paths and exact fractions."""
    everyone = range(len(paths))
    if quality == "draft":
        merit = [Fraction(path.distance**2, path.rtt) for path in paths]
    else:
        merit = [Fraction(path.distance, path.rtt**2) for path in paths]
    best = {one for one in everyone if merit[one] == max(merit)}
    largest = {one for one in everyone if paths[one].window == max(p.window for p in paths)}
    collected = best - largest
    shift = Fraction(0)
    if index in collected:
        shift = Fraction(1, len(paths) * len(collected))
    elif index in largest and collected:
        shift = Fraction(-1, len(paths) * len(largest))
    rates = sum(Fraction(path.window, path.rtt) for path in paths)
    path = paths[index]
    return Fraction(path.window, path.rtt**2) / rates**2 + shift / path.window


@pytest.mark.slow
@given(paths=paths_strategy, quality=st.sampled_from(["draft", "paper"]))
def test_olia_against_sets_and_fractions(paths: list[Path], quality: str) -> None:
    kind = OliaDraft if quality == "draft" else Olia
    for index in range(len(paths)):
        control = controls(kind, paths)[index]
        expected = float(olia_increase(paths, index, quality))
        # Ten segments keep even the steepest decrease above the floor of one segment.
        assert increase(control, 10) == pytest.approx(expected, rel=1e-3, abs=2e-4)


def test_olia_moves_window_from_the_largest_to_the_best() -> None:
    made = controls(Olia, [Path(40, 10, distance=100), Path(10, 10, distance=2000)])
    # w/rtt^2 / (sum w/rtt)^2 = 40/2500 and 10/2500; shifts -1/2 / 40 and +1/2 / 10.
    assert increase(made[0], 10) == pytest.approx(40 / 2500 - 1 / 80, abs=1e-4)
    made = controls(Olia, [Path(40, 10, distance=100), Path(10, 10, distance=2000)])
    assert increase(made[1], 10) == pytest.approx(10 / 2500 + 1 / 20, abs=1e-4)


def test_olia_and_its_draft_choose_different_best_paths() -> None:
    # l^2/rtt: 300^2/90 = 1000 against 100^2/20 = 500; l/rtt^2: 300/8100 against 100/400.
    paths = [Path(10, 90, distance=300), Path(20, 20, distance=100)]
    assert isinstance(made := controls(OliaDraft, paths)[0], Olia)
    assert made.shift() > 0
    assert isinstance(made := controls(Olia, paths)[0], Olia)
    assert made.shift() == 0.0


def test_olia_keeps_at_least_one_segment() -> None:
    control = controls(Olia, [Path(2, 400, distance=1), Path(1, 1, distance=1000)])[0]
    for _ in range(50):
        control.avoid_congestion(10 * MSS, AckSample())
    assert control.cwnd_bytes == MSS


def test_olia_distance_is_the_larger_of_the_last_and_the_running_one() -> None:
    control = Olia(MSS, CongestionGroup())
    control.ssthresh_bytes = MSS
    for acked_segments in (30, 50):
        control.on_ack(AckSample(0, acked_segments * MSS, 10 * MS, 10 * MS, 0))
    control.on_loss_event(0, 10 * MSS)
    assert (control.between_losses_bytes, control.since_loss_bytes) == (80 * MSS, 0)
    control.on_ack(AckSample(0, 20 * MSS, 10 * MS, 10 * MS, 0, in_recovery=True))
    assert control.path_quality() == pytest.approx(80 * MSS / (10 * MS) ** 2)
    control.on_ack(AckSample(0, 90 * MSS, 10 * MS, 10 * MS, 0))
    assert control.path_quality() == pytest.approx(110 * MSS / (10 * MS) ** 2)
    control.on_rto(0, 10 * MSS, first=True)
    control.on_rto(0, 10 * MSS, first=False)
    assert (control.between_losses_bytes, control.since_loss_bytes) == (110 * MSS, 0)


def balia_increase(paths: list[Path], index: int) -> Fraction:
    """The kernel's other form: one more per 10 (sum x)^2 w / ((x + max)(4 x + max)) ACKs."""
    rates = [Fraction(path.window, path.rtt) for path in paths]
    own, best = rates[index], max(rates)
    return (own + best) * (4 * own + best) / (10 * sum(rates) ** 2 * paths[index].window)


@pytest.mark.slow
@given(paths=paths_strategy)
def test_balia_against_the_kernels_form(paths: list[Path]) -> None:
    for index in range(len(paths)):
        control = controls(Balia, paths)[index]
        expected = float(balia_increase(paths, index))
        assert increase(control) == pytest.approx(expected, rel=1e-3, abs=2e-6)


@pytest.mark.parametrize(
    ("windows", "left"),
    [
        ((40, 40), 20.0),  # alpha 1: half
        ((40, 50), 40 - 40 / 2 * 1.25),  # alpha 1.25
        ((40, 100), 40 - 40 / 2 * 1.5),  # alpha 2.5, capped at 1.5
        ((3, 100), 2.0),  # down to two segments
    ],
)
def test_balia_decrease_by_hand(windows: tuple[int, int], left: float) -> None:
    control = controls(Balia, [Path(window, 10) for window in windows])[0]
    control.on_loss_event(0, 10_000 * MSS)
    assert control.cwnd_bytes == pytest.approx(left * MSS, abs=1)


@pytest.mark.parametrize("kind", [Lia, Olia, Balia])
def test_the_least_window_after_a_loss_is_two_segments(kind: type[CongestionControl]) -> None:
    for number_of_paths in (1, 2):
        control = controls(kind, [Path(2, 10)] * number_of_paths)[0]
        control.on_loss_event(0, 2 * MSS)
        assert control.cwnd_bytes == 2 * MSS

"""Every known reason for which no second subflow comes: named, and mended by --fix's commands."""

from __future__ import annotations

from typing import Any

import pytest
from tests.linux.hosts.cases import CASES, Case, apply, examined
from tests.linux.hosts.lab import HostLab, direct, in_lab, routed

from mptcplab.hosts.judgement import Judgement

pytestmark = pytest.mark.kernel


def codes(judgement: Judgement) -> list[str]:
    """Return the codes of all that is in the way."""
    rows = [obstacle for row in judgement.rows for obstacle in row.obstacles]
    return [obstacle.code for obstacle in (*judgement.general, *rows)]


def _play(case: Case, version: int) -> Any:
    def work(lab: HostLab) -> Any:
        case.bend(lab)
        before = examined(lab, case, case.server, case.wait_s).judgement
        apply(lab, before.fixes)
        if case.by_hand is not None:
            case.by_hand(lab)
        again = case.serve_again or case.server
        after = examined(lab, case, again, case.wait_s).judgement
        if case.then:
            assert set(codes(after)) == {case.then}
            apply(lab, after.fixes)
            after = examined(lab, case, again, case.wait_s).judgement
        return before, after

    return in_lab(case.make, version, work)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_misconfiguration_is_named_and_mended(case: Case, version: int) -> None:
    if version not in case.versions:
        pytest.skip(f"there is no such thing with IPv{version}")
    before, after = _play(case, version)
    assert set(codes(before)) == {case.code}
    assert before.enough is case.enough
    assert not before.healthy
    assert after.healthy, codes(after)
    assert after.subflows is not None
    assert after.subflows >= 2


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("make", [direct, routed])
def test_a_healthy_host_is_called_healthy(make: Any, version: int) -> None:
    case = Case("healthy", "", make, lambda _: None, "", 1 if make is direct else 8)

    def work(lab: HostLab) -> Judgement:
        return examined(lab, case, "mptcp", case.wait_s).judgement

    judgement = in_lab(make, version, work)
    assert judgement.healthy, codes(judgement)
    assert judgement.subflows == 2

"""A run that somebody reached into says so; see bench/bent_runs.py for many more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench.bent_runs import BENT, judge, run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

CASES = {case.name: case for case in BENT}


@pytest.mark.parametrize(
    "name",
    [
        "a shaper's rate lowered",
        "a qdisc that came and went",
        "an address removed",
        "an emulator stopped for 0.9 s",
        "an emulator killed",
    ],
)
def test_what_was_done_to_a_run_is_why_it_is_invalid(tmp_path: Path, name: str) -> None:
    case = replace(CASES[name], duration_s=2.5, after_s=0.5)
    valid, reasons, problem = run(case, tmp_path)
    assert judge(case, valid, reasons, problem), (reasons, problem)

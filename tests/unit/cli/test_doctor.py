"""What the doctor says of the build; what it says of the kernel is tried on the kernel."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from mptcplab.cli import doctor
from mptcplab.cli.main import main
from mptcplab.provenance import this_build


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel have everything."""
    monkeypatch.setattr(doctor, "examine", lambda: ([doctor.Finding("MPTCP", True, True)], "6.18"))


@pytest.mark.parametrize("compiled", [False, True])
def test_it_says_which_build_runs_and_how_to_get_the_faster(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = replace(this_build(), compiled=compiled, commit="0123")
    monkeypatch.setattr(doctor, "this_build", lambda: build)
    monkeypatch.setattr(doctor, "stale_modules", list)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    kind = "compiled" if compiled else "interpreted"
    assert text.startswith(
        f"mptcplab {build.version}, {kind}, on {build.python}, commit 0123\nLinux 6.18\n"
    )
    assert ("make compile" in text) != compiled


def test_a_build_that_is_older_than_its_sources_is_not_the_compiled_one() -> None:
    stale = doctor.compiled_finding(True, ["seq.py", "a.py", "b.py", "c.py", "d.py"])
    assert not stale.present
    assert "seq.py, a.py, b.py and 2 more" in stale.cost
    assert "make compile" in stale.remedy
    assert doctor.compiled_finding(True, []).present


def test_json_has_the_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["build"] == asdict(this_build())
    assert answer["kernel"] == "6.18"
    assert answer["linux_testbed"] is True
    assert [finding["name"] for finding in answer["findings"]] == ["compiled build", "MPTCP"]

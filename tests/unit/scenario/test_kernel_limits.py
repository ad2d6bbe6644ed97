"""What keeps a scenario off the Linux testbed: `check` says it, and that testbed refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.linux.measure.unsupported import UnsupportedError, check_standing, check_supported
from mptcplab.scenario import load
from mptcplab.scenario.describe import notes
from mptcplab.scenario.model import Scenario

FABRIC = """
duration = "1s"
hosts = ["a", "b"]
switches = { s = {}, t = {} }
links.a = { between = ["a", "s"], rate = "10Mb/s" }
links.b = { between = ["b", "t"], rate = "10Mb/s" }
links.x = { between = ["s", "t"], rate = "10Mb/s" }
links.y = { between = ["t", "s"], rate = "10Mb/s" }
flows.f = { from = "a", to = "b" }
"""


def loaded(tmp_path: Path, text: str, *overrides: str) -> Scenario:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return load(path, overrides=overrides)


def parallel(count: int) -> str:
    links = "".join(
        f'links.l{n} = {{ between = ["a", "b"], rate = "10Mb/s" }}\n' for n in range(count)
    )
    return f'duration = "1s"\nhosts = ["a", "b"]\nflows.f = {{ from = "a", to = "b" }}\n{links}'


def refused(scenario: Scenario) -> str:
    with pytest.raises(UnsupportedError) as caught:
        check_supported(scenario)
    said = str(caught.value)
    assert "or --on simulated" in said
    assert any(text.startswith("in simulation only") for text in notes(scenario))
    return said


def test_a_ring_of_switches(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, FABRIC)
    assert "links.y.between: closes a ring of switches between t and s" in refused(scenario)
    with pytest.raises(UnsupportedError, match=r"links\.y\.between"):
        check_standing(scenario.topology)


def test_more_endpoints_than_kernels_hold(tmp_path: Path) -> None:
    said = refused(loaded(tmp_path, parallel(9)))
    assert "hosts.a.interfaces: 9 addresses take part in MPTCP" in said
    assert "at most 8" in said


def test_hosts_with_our_stack_may_have_more(tmp_path: Path) -> None:
    ours = ("hosts.a.stack=ours", "hosts.b.stack=ours")
    check_supported(
        loaded(tmp_path, parallel(12).replace('hosts = ["a", "b"]', "hosts = {a={},b={}}"), *ours)
    )


def test_more_subflows_than_kernels_add(tmp_path: Path) -> None:
    a = ", ".join(f'a{n} = "10.9.0.{n}/24"' for n in range(1, 5))
    b = ", ".join(f'b{n} = "10.9.0.1{n}/24"' for n in range(1, 5))
    ends = [f"{host}{n}" for host in "ab" for n in range(1, 5)]
    links = "".join(f'links.{end} = {{ between = ["{end[0]}:{end}", "s"] }}\n' for end in ends)
    scenario = loaded(
        tmp_path,
        f'duration = "1s"\nswitches.s = {{}}\nflows.f = {{ from = "a", to = "b" }}\n{links}'
        f"[hosts.a]\ninterfaces = {{ {a} }}\n[hosts.b]\ninterfaces = {{ {b} }}\n",
    )
    assert "flows.f: 16 subflows for each connection; expected at most 9" in refused(scenario)

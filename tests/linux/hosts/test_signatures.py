"""Every known reason for which no second subflow comes: named, and mended by --fix's commands.

What is said of each stands in ``docs/validation/hosts.md``; write it anew with ``python -m
tests.linux.hosts.test_signatures``.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any, Final

import pytest
from tests.behaviour.documentation import DOCS
from tests.linux.hosts.cases import CASES, Case, apply, examined
from tests.linux.hosts.lab import HostLab, direct, in_lab, routed

from mptcplab.hosts.judge import has_laminar
from mptcplab.hosts.judgement import Judgement

IS_CURRENT: Final = has_laminar(platform.release())
"""Whether this kernel is one of those that the page was written on."""
PAGE: Final = DOCS / "validation" / "hosts.md"
HEAD: Final = """\
# Why hosts make no second subflow

<!-- Written by `python -m tests.linux.hosts.test_signatures` from what was said. -->

Each line is a lab of network namespaces in which two subflows come, and one thing that is bent in
it. `mptcplab host PEER` on the client has to say what keeps the second subflow from coming, that
and nothing else, with IPv4 and with IPv6; then its `--fix` is carried out, where the remedy is a
command, and the subflow has to come. The client has 10.0.1.1 and 10.0.2.1; the server is 10.0.8.2
behind a router, or 10.0.1.2 and 10.0.2.2 on the same links. Hosts in which nothing is bent are
called healthy.

| bent | said | step | mended by |
|---|---|---|---|
"""
TAIL: Final = """
Measured on Linux 6.18. Where a remedy is in words, the test does what it says: it removes the
firewall's rule, or starts a server that speaks MPTCP, or one that listens on all its addresses.
"""


def codes(judgement: Judgement) -> list[str]:
    """Return the codes of all that is in the way."""
    rows = [obstacle for row in judgement.rows for obstacle in row.obstacles]
    return [obstacle.code for obstacle in (*judgement.general, *rows)]


def page_row(case: Case, judgement: Judgement) -> str:
    """Return what was said as a row of the page."""
    rows = [obstacle for row in judgement.rows for obstacle in row.obstacles]
    said = next(o for o in (*judgement.general, *rows) if o.code == case.code)
    mended = "; ".join(
        f"{'on the peer: ' if fix.on == 'peer' else ''}`{fix.command}`" for fix in judgement.fixes
    )
    text = f"| {case.what} | {said.why} | {said.step} | {mended or said.remedy} |"
    text = re.sub(r"table 1\d\d\d", "table 1003", text)
    return re.sub(r"fe80::[0-9a-f:]+", "fe80::1", text)


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


@pytest.mark.kernel
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_misconfiguration_is_named_and_mended(case: Case, version: int) -> None:
    if version not in case.versions:
        pytest.skip(f"there is no such thing with IPv{version}")
    for name in case.needs:
        if not Path("/proc/sys", name).exists():
            pytest.skip(f"this kernel has no {name}")
    if case.laminar and not IS_CURRENT:
        pytest.skip("this kernel has no laminar endpoints")
    before, after = _play(case, version)
    assert set(codes(before)) == {case.code}
    assert before.enough is case.enough
    assert not before.healthy
    assert after.healthy, codes(after)
    assert after.subflows is not None
    assert after.subflows >= 2
    if version == case.versions[0] and IS_CURRENT:
        assert page_row(case, before) in PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.kernel
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("make", [direct, routed])
def test_a_healthy_host_is_called_healthy(make: Any, version: int) -> None:
    case = Case("healthy", "", make, lambda _: None, "", 1 if make is direct else 8)

    def work(lab: HostLab) -> Judgement:
        return examined(lab, case, "mptcp", case.wait_s).judgement

    judgement = in_lab(make, version, work)
    assert judgement.healthy, codes(judgement)
    assert judgement.subflows == 2


def test_the_page_has_every_case_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(HEAD)
    assert text.endswith(TAIL)
    rows = text.removeprefix(HEAD).removesuffix(TAIL).splitlines()
    assert [row.split(" | ")[0] for row in rows] == [f"| {case.what}" for case in CASES]


if __name__ == "__main__":
    lines = [page_row(case, _play(case, case.versions[0])[0]) for case in CASES]
    PAGE.write_text(HEAD + "".join(f"{line}\n" for line in lines) + TAIL, encoding="utf-8")

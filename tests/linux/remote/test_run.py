"""A scenario on machines over SSH: a whole run, and nothing left on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.linux.remote.conftest import TWO_LINKS
from tests.linux.remote.machines import Machines

from mptcplab.linux.kernel.capabilities import netem_works
from mptcplab.results.run import Run

pytestmark = [pytest.mark.kernel, pytest.mark.program("sshd"), pytest.mark.slow]


def test_a_flow_uses_both_links_and_leaves_nothing(untouched: Machines, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = untouched.run(
        "run", str(TWO_LINKS), "--on", "hosts", *untouched.options, "--out", str(out)
    )
    assert done.returncode == 0, done.stderr + done.stdout
    run = Run(out)
    assert run.metadata["testbed"] == "hosts"
    assert run.metadata["invalid_reasons"] == []
    (flow,) = run.metadata["flows"]
    assert flow["protocol"] == "mptcp"
    assert flow["intact"] is True
    flows = run.table("flows").to_pylist()
    settled = [row["goodput_bps"] for row in flows if row["time_ns"] > 500_000_000]
    assert 85e6 < sum(settled) / len(settled) < 100e6
    links = run.table("links").to_pylist()
    for link in ("a", "b"):
        sent = sum(
            row["tx_bytes"] for row in links if (row["link"], row["direction"]) == (link, "forward")
        )
        assert sent * 8 > 80e6
        assert any(row["rtt_ns"] for row in links if row["link"] == link)
    subflows = run.table("subflows").to_pylist()
    assert {(row["host"], row["link"]) for row in subflows} == {
        (host, link) for host in ("client", "server") for link in ("a", "b")
    }
    counters = run.table("counters").to_pylist()
    assert ("client", "MPTcpExtMPJoinSynTx") in {(r["host"], r["counter"]) for r in counters}


@pytest.mark.skipif(netem_works(), reason="this kernel has netem")
def test_a_kernel_without_it_is_refused_before_anything_is_done(untouched: Machines) -> None:
    asked = ("--set", "links.a.driver=netem", "--set", "links.a.delay=5ms")
    done = untouched.run("run", str(TWO_LINKS), "--on", "hosts", *untouched.options, *asked)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert 'client: links.a.driver: "netem": its kernel has no netem' in done.stderr

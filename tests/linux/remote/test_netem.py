"""Delay and loss made on machines over SSH, by a `tc` that stands for netem where there is none."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.linux.remote.conftest import TWO_LINKS
from tests.linux.remote.kills import end_a_run
from tests.linux.remote.machines import Machines, machines

from mptcplab.results.run import Run
from mptcplab.scenario import load

pytestmark = [pytest.mark.kernel, pytest.mark.program("sshd"), pytest.mark.slow]

ASKED: Final = (
    *("--set", "links.a.driver=netem", "--set", "links.a.delay=10ms"),
    *("--set", "links.a.loss=0.01"),
)
_HERE: Final = "root handle 7101:"


@pytest.fixture(scope="module")
def with_netem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two machines whose agents find a `tc` that knows netem."""
    folder = tmp_path_factory.mktemp("netem")
    tools = folder / "tools"
    tools.mkdir()
    text = Path(__file__).with_name("fake_tc.py").read_text()
    (tools / "tc").write_text(text.replace("/usr/bin/env python3", sys.executable))
    (tools / "tc").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    with machines(load(TWO_LINKS).topology, folder, path=path) as result:
        yield result


def _log(hosts: Machines) -> list[str]:
    return (hosts.home / "tools" / "tc-log").read_text().splitlines()


def _left(hosts: Machines) -> object:
    return json.loads((hosts.home / "tools" / "tc-state").read_text())


def test_a_link_is_delayed_changed_and_left_as_it_was(with_netem: Machines, tmp_path: Path) -> None:
    before = with_netem.state()
    file = tmp_path / "netem.toml"
    shutil.copy(TWO_LINKS, file)
    with file.open("a") as more:
        more.write('\n[[timeline]]\nat = "1s"\nchange = "a"\nloss = 0.02\n')
    out = tmp_path / "run"
    done = with_netem.run(
        *("run", str(file), "--on", "hosts", *with_netem.options, *ASKED, "--out", str(out))
    )
    assert out.exists(), done.stderr
    run = Run(out)
    assert run.metadata["drivers"] == {"a": "netem", "b": "real"}
    assert "ip link set dev a0 gso_max_segs 1" in run.metadata["hosts"]["client"]["changes"]
    first = f"tc qdisc add dev a0 {_HERE} netem limit 1000000 delay 10000us loss random 1%"
    assert first in run.metadata["hosts"]["server"]["changes"]
    log = _log(with_netem)
    for words in (
        f"qdisc add dev a0 {_HERE} netem limit 1000000 delay 10000us loss random 1%",
        f"qdisc change dev a0 {_HERE} netem limit 1000000 delay 10000us loss random 2%",
        f"qdisc del dev a0 {_HERE}",
    ):
        assert log.count(words) == 2
    assert _left(with_netem) == {}
    with_netem.expect(before, within_s=30)


def test_kills_leave_no_netem(with_netem: Machines) -> None:
    end_a_run(with_netem, "everything", random.uniform(2.0, 4.0), *ASKED)
    assert _left(with_netem) == {}

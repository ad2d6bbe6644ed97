"""The compiled build against the interpreted one: the same tables, byte for byte."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mptcplab
from mptcplab.results.tables import TABLES
from mptcplab.stack import stack

SCENARIO = """
title = "loss, a failure and a return"
question = "?"
duration = "4s"
hosts = ["alice", "bob"]

[links.one]
between = ["alice", "bob"]
rate = "20Mb/s"
rtt = "10ms"
loss = "0.1%"

[links.two]
between = ["alice", "bob"]
rate = "10Mb/s"
rtt = "30ms"
jitter = "1ms"

[flows.main]
from = "alice"
to = "bob"

[[timeline]]
at = "1s"
down = "one"

[[timeline]]
at = "2s"
up = "one"
"""

PACKAGE = Path(mptcplab.__file__).parent


def tables(sources: Path, scenario: Path, folder: Path) -> dict[str, str]:
    subprocess.run(
        [sys.executable, "-m", "mptcplab", "run", str(scenario), "--out", str(folder), "--json"],
        env={**os.environ, "PYTHONPATH": str(sources)},
        capture_output=True,
        check=True,
    )
    return {
        name: hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest()
        for name in TABLES
    }


@pytest.mark.skipif(stack.__file__.endswith(".py"), reason="this build is not compiled")
def test_both_builds_write_the_same_bytes(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(
        PACKAGE, sources / "mptcplab", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO)
    compiled = tables(PACKAGE.parent, scenario, tmp_path / "compiled")
    assert tables(sources, scenario, tmp_path / "interpreted") == compiled

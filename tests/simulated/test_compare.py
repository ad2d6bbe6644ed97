"""``mptcplab compare`` as a user calls it, on small links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mptcplab.cli.main import main
from mptcplab.results.run import Run

SCENARIO = """
title = "two links"
duration = "4s"
hosts = ["alice", "bob"]
links.one = { between = ["alice", "bob"], rate = "10Mb/s", rtt = "10ms" }
links.two = { between = ["alice", "bob"], rate = "5Mb/s", rtt = "30ms" }
flows.main = { from = "alice", to = "bob", congestion = "lia" }
flows.file = { from = "bob", to = "alice", size = "100kB", start = "1s" }
"""


@pytest.fixture(name="scenario")
def scenario_file(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    return path


@pytest.mark.slow
def test_mptcp_against_tcp_on_each_link(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["compare", str(scenario), "--tcp", "--repetitions", "3", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    said = capsys.readouterr()
    found: dict[str, Any] = json.loads(said.out)
    assert json.loads((out / "comparison.json").read_text()) == found
    assert (out / "comparison.png").exists()
    # beside them, runs that take long are told that a compiled build is faster
    assert sum(line.startswith("[") for line in said.err.splitlines()) == 9
    labels = [variant["label"] for variant in found["variants"]]
    assert labels == ["as it is", "TCP over one", "TCP over two"]
    goodput = [variant["quantities"][0] for variant in found["variants"]]
    assert {entry["name"] for entry in goodput} == {"goodput of main"}
    assert [entry["outcome"] for entry in goodput] == ["not judged", "worse", "worse"]
    assert goodput[0]["value"]["mean"] > 11e6
    assert 4e6 < goodput[2]["value"]["mean"] < 5e6
    assert [len(entry["values"]) for entry in goodput] == [3, 3, 3]
    assert {variant["quantities"][1]["name"] for variant in found["variants"]} == {"time of file"}

    run = Run(out / "tcp-over-two" / "2")
    assert run.scenario["seed"] == 2
    assert [flow["protocol"] for flow in run.scenario["flows"]] == ["tcp", "tcp"]
    assert [flow["congestion"] for flow in run.scenario["flows"]] == ["reno", "cubic"]
    as_it_is = Run(out / "as-it-is" / "2").scenario["flows"]
    starts = [flow["start_ns"] for flow in run.scenario["flows"]]
    assert starts == [flow["start_ns"] for flow in as_it_is]  # a pair starts alike
    assert 0 < starts[0] < 80_000_000

    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.slow
def test_variants_of_several_keys(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", str(scenario), "--set", "links.two.rate=9Mb/s", "--out"]
    arguments += [str(tmp_path / "out"), "--repetitions", "1", "--duration", "2s", "--variant"]
    assert main([*arguments, "links.two.rate=1Mb/s", "flows.main.buffer=20kB"]) == 0
    text = capsys.readouterr().out
    assert "links.two.rate=1Mb/s, flows.main.buffer=20kB" in text
    assert "One run of each does not show random variation" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to compare it with; expected --variant KEY=VALUE, or --tcp"),
        (["--variant", "flows.main.bufer=1MB"], 'did you mean "buffer"?'),
        (["--variant", "x"], "is not KEY=VALUE"),
        (["--tcp", "--repetitions", "0"], "0 is not a number of runs"),
        (["--tcp", "--set", "flows.*.protocol=tcp"], "finds no MPTCP flow"),
        (["--variant", "seed=1", "--variant", "seed=1"], "is given twice"),
        (["--variant", "links.two.rate=5Mb/s"], "is the same as the scenario as it is"),
        (
            [
                "--variant",
                "links.one.queue=10 packets",
                "--variant",
                'links.one.queue="10 packets"',
            ],
            "is the same as links.one.queue=10 packets",
        ),
    ],
)
def test_bad_arguments(
    arguments: list[str], said: str, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["--set", "flows.main.congestion=reno"]
    assert main(["compare", str(scenario), *overrides, *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_what_has_nothing_random_is_one_observation(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "compare",
        str(scenario),
        "--set",
        "processing_jitter=0",
        "--set",
        "start_jitter=0",
    ]
    arguments += ["--variant", "links.two.rate=1Mb/s", "--repetitions", "5", "--duration", "2s"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "one observation" in said.err
    assert found["repetitions"] == 1
    outcomes = {each["outcome"] for variant in found["variants"] for each in variant["quantities"]}
    assert outcomes == {"not judged"}


@pytest.mark.slow
def test_a_seed_is_the_same_run_in_every_command(scenario: Path, tmp_path: Path) -> None:
    once = tmp_path / "once"
    several = tmp_path / "several"
    compared = tmp_path / "compared"
    words = [str(scenario), "--duration", "1s"]
    assert main(["run", *words, "--seed", "2", "--out", str(once)]) == 0
    assert main(["run", *words, "--repetitions", "2", "--out", str(several)]) == 0
    words += ["--variant", "links.two.rate=1Mb/s", "--repetitions", "2"]
    assert main(["compare", *words, "--out", str(compared)]) == 0
    tables = [
        (folder / "flows.parquet").read_bytes()
        for folder in (once, several / "2", compared / "as-it-is" / "2")
    ]
    assert tables[0] == tables[1] == tables[2]
    assert (several / "1" / "flows.parquet").read_bytes() != tables[0]

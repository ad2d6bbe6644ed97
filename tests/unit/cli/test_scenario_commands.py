"""``check``, ``experiments`` and ``schema`` as a user calls them."""

import argparse
import json
from pathlib import Path

import pytest

from mptcplab.cli import check, experiments, schema
from mptcplab.cli.main import main
from mptcplab.scenario import ScenarioError


def called(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for command in (check, experiments, schema):
        command.add_parser(subparsers)
    args = parser.parse_args(argv)
    status: int = args.run(args)
    return status


@pytest.mark.parametrize("name", [*"ABCDEFGHI", "report"])
def test_check_fits_100_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("check", name) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[4:])) <= 100  # the fourth is the file's path


def test_check_says_what_would_be_built(capsys: pytest.CaptureFixture[str]) -> None:
    called("check", "G", "--time-scale", "0.1")
    out = capsys.readouterr().out
    assert "60 s (times scaled by 0.1)" in out
    assert "eth2.518  VLAN 518 on eth2, 10 Gb/s  192.168.24.1/24" in out
    assert "252.5 MB" in out
    assert "subflow 3  192.168.138.2 > 192.168.138.18  over link2" in out
    assert "buffers of 12.58 MB are short: the report's equation 5 asks for 570.6 MB" in " ".join(
        out.split()
    )
    assert "the Linux testbed ignores it" in out


def test_check_json(capsys: pytest.CaptureFixture[str]) -> None:
    called("check", "B", "--json", "--set", "flows.main.buffer=1MB", "--seed", "3")
    result = json.loads(capsys.readouterr().out)
    assert result["name"] == "B"
    assert result["seed"] == 3
    assert result["flows"][0]["send_buffer_bytes"] == 1_000_000
    assert [stage["links_up"] for stage in result["stages"]] == [
        ["link6"], ["link6", "link5"], ["link5"], ["link6", "link5"]
    ]  # fmt: skip
    assert [path["links"] for path in result["subflows"]["main"]] == [["link6"], ["link5"]]


def test_check_json_of_a_topology(capsys: pytest.CaptureFixture[str]) -> None:
    called("check", "report", "--json")
    assert len(json.loads(capsys.readouterr().out)["links"]) == 10


@pytest.mark.parametrize(
    "argv",
    [
        ("check", "nosuch"),
        ("check", "A", "--set", "flows.*.bufer=1MB"),
        ("check", "A", "--duration", "soon"),
        ("check", "A", "--duration", "10s", "--time-scale", "0.5"),
        ("check", "A", "--time-scale", "0"),
        ("check", "A", "--interval", "1ns"),
        ("check", "A", "--seed", "-1"),
        ("schema", "-o", "/nonexistent/file"),
    ],
)
def test_bad_arguments(argv: tuple[str, ...]) -> None:
    with pytest.raises(ScenarioError):
        called(*argv)


def test_a_broken_scenario_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('duration = "1s"\nhosts = ["a"]\n[links.x]\nbetween = ["a", "b"]\n')
    before = sorted(tmp_path.iterdir())
    for command in (["check"], ["run", "--out", str(tmp_path / "out")]):
        assert main([*command, str(path)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == (
            f'mptcplab: {path}, line 4: links.x.between: there is no host, router or switch "b"; '
            "expected one of a\n"
        )
    assert sorted(tmp_path.iterdir()) == before


def test_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    called("experiments")
    listed = capsys.readouterr().out
    assert "B  Robustness on 2x 1 Gb/s LAN links (section 3.3.2)" in listed
    assert "SESSIONS  Parallel sessions of MPTCP beside as many of TCP (appendix F)" in listed
    assert "examples/wifi-and-lte  A phone with WiFi and LTE" in listed
    assert max(map(len, listed.splitlines())) <= 100
    called("experiments", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows][:10] == [*"ABCDEFGHI", "SESSIONS"]
    assert all(row["name"].startswith("examples/") and row["lesson"] for row in rows[10:])


def test_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called("schema", "-o", str(tmp_path / "schema.json"))
    written = json.loads((tmp_path / "schema.json").read_text())
    called("schema")
    assert json.loads(capsys.readouterr().out) == written
    called("schema", "--topology")
    assert "flows" not in json.loads(capsys.readouterr().out)["properties"]

"""Files made to hurt: deep, huge, broken, or about files elsewhere.  Each costs a line, at once."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.scenario import ScenarioError, load, load_topology

BASE = 'duration = "1s"\nhosts = ["a", "b"]\n'
LINK = 'links.l = { between = ["a", "b"], rate = "1Mb/s", rtt = "10ms" }\n'
FLOW = 'flows.f = { from = "a", to = "b" }\n'
SOUND = BASE + LINK + FLOW
MEMORY_BYTES = 1 << 30
WITHIN_S = 30.0
"""Of CPU; a machine that others use as well is slow at times.  Each took minutes, or for ever."""


def many(line: str, number: int) -> str:
    """Return a line as often as that, with its number in place of ``#``."""
    return "".join(line.replace("#", str(place)) + "\n" for place in range(number))


def chain(switches: int) -> str:
    """Return hosts at the two ends of a chain of switches."""
    names = ", ".join(f'"s{number}"' for number in range(switches))
    between = many('links.l# = { between = ["s#", "s%"] }', switches - 1).splitlines()
    links = "".join(
        line.replace("%", str(number + 1)) + "\n" for number, line in enumerate(between)
    )
    first = 'links.first = { between = ["a", "s0"], rate = "1Mb/s" }\n'
    last = f'links.last = {{ between = ["s{switches - 1}", "b"] }}\n'
    return f"{BASE}switches = [{names}]\n{first}{links}{last}{FLOW}"


LINKS = 'links.l# = { between = ["a", "b"], rate = "1Mb/s", rtt = "10ms" }'
FLOWS = 'flows.f# = { from = "a", to = "b" }'
POINT = '{ label = "p#", set = ["links.l.rate=1#kb/s"] },'
ACTION = '{ at = "#us", change = "l", rate = "1Mb/s" },'
HOSTILE = {
    "lists within lists": ("x = " + "[" * 50_000, "nested too deeply"),
    "tables within tables": ("x = " + "{a = " * 50_000, "nested too deeply"),
    "lists within lists, closed": ("x = " + "[" * 200 + "]" * 200, "nested too deeply"),
    "a key of many parts": (".".join("a" * 50_000) + " = 1", "line 1: tables or lists are nested"),
    "a heading of many parts": (f"\n[{'.'.join('a' * 50_000)}]", "line 2: tables or lists"),
    "a quoted key of many parts": (" . ".join(['"a"'] * 9_000) + "=1", "nested too deeply"),
    "an integer of 10,000 digits": (SOUND + "seed = " + "9" * 10_000, "line 5: a whole number of"),
    "one of 40,000 bits": (SOUND + "seed = 0x" + "f" * 10_000, "seed: a whole number of 40000"),
    "one in a list": (SOUND + f"report.figures = [{2**2000}]", "report.figures.0: a whole number"),
    "a rate of 10,000 digits": (BASE + LINK.replace("1Mb", "9" * 10_000 + "b"), "is not a rate"),
    "a size of a million digits": (
        BASE + LINK + FLOW.replace('"b" }', f'"b", buffer = "{"9" * 900_000}B" }}'),
        "is not a size",
    ),
    "a size beyond all": (BASE + LINK + FLOW.replace('"b" }', '"b", size = "1e999B" }'), "size"),
    "a name of 900,000 letters": (BASE + f"links.{'x' * 900_000} = {{}}", "cannot be the name"),
    "a list where a name is": (
        BASE + LINK + FLOW.replace('"b" }', '"b", congestion = [] }'),
        "flows.f.congestion: a list is not a name",
    ),
    "a table where a name is": (
        BASE + LINK + FLOW.replace('"b" }', '"b", congestion = {} }'),
        "flows.f.congestion: a table is not a name",
    ),
    "no end": ('title = "abc', "TOML syntax"),
    "no text": ("\x00\x01", "TOML syntax"),
    "five megabytes": ("#" * 5_000_000, "is larger than 1.049 MB"),
    "100,000 flows": (BASE + LINK + many(FLOWS, 25_000), "flows: 25000 of them; expected 10000"),
    "5,000 points": (SOUND + f"sweep.points = [{many(POINT, 5_000)}]", "5000 of them"),
    "points of many links": (
        BASE + many(LINKS, 300) + FLOW + f"sweep.points = [{many(POINT, 300)}]",
        "sweep.points: 300 points with 303 hosts",
    ),
    "20,000 actions": (SOUND + f"timeline = [{many(ACTION, 20_000)}]", "timeline: 20000 of them"),
    "actions of many links": (
        BASE + many(LINKS, 400) + FLOW + f"timeline = [{many(ACTION, 4_000)}]",
        "timeline: 4000 actions with 401 links",
    ),
    "a mesh of 100,000 pairs": (
        BASE + many(LINKS, 1_000) + many(FLOWS, 100), "could join more than 50000 pairs"
    ),
    "50,000 errors": (BASE + LINK + many('k# = "x"', 50_000), "not read further"),
    "a topology of a long name": (f'topology = "{"x" * 5_000}"\n' + SOUND, "neither a built-in"),
    "a topology of no name": ('topology = "\\u0000"\n' + SOUND, "neither a built-in"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_it_costs_a_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hostile.toml"
    path.write_text(text)
    start_s = time.process_time()
    assert main(["check", str(path)]) == 2
    assert time.process_time() - start_s < WITHIN_S
    error = capsys.readouterr().err
    assert said in error
    assert str(path) in error
    assert len(error.splitlines()) <= 101
    assert all(len(line) < 4_000 for line in error.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        BASE + many(LINKS, 500) + FLOW,
        chain(2_000),
        BASE + LINK + many(FLOWS, 2_000),
        SOUND.replace('"b"]\n', '"b", "c"]\n', 1),  # a host without links
    ],
    ids=["500 links", "2,000 switches", "2,000 flows", "an unused host"],
)
@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["text", "JSON"])
def test_large_ones_are_checked_in_bounded_time_and_memory(
    arguments: list[str], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "large.toml"
    path.write_text(text)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (int(WITHIN_S), int(WITHIN_S) + 1))

    done = subprocess.run(
        [sys.executable, "-m", "mptcplab", "check", str(path), *arguments],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_time_grows_with_the_file_and_not_with_its_square(tmp_path: Path) -> None:
    took_s = []
    for number in (400, 3_200):
        path = tmp_path / f"{number}.toml"
        path.write_text(BASE + many(LINKS, number) + FLOW)
        gc.collect()
        gc.disable()  # its time goes by what all tests before have left behind
        start_s = time.process_time()
        load(path)
        took_s.append(time.process_time() - start_s)
        gc.enable()
    assert took_s[1] < 24 * took_s[0]  # 8 where it is linear, 64 where it is quadratic


@pytest.mark.parametrize("value", ["9" * 10_000, "0x" + "f" * 10_000, "[" * 50_000])
def test_a_hostile_value_on_the_command_line(value: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.toml"
    path.write_text(SOUND)
    with pytest.raises(ScenarioError) as caught:
        load(path, overrides=(f"seed={value}",))
    assert len(str(caught.value)) < 4_000


@pytest.mark.parametrize(
    "content",
    ["root:$6$secret:19000:0:99999:7:::\n", '[secret]\ntoken = "secret"\n', 'hosts = ["secret\n'],
    ids=["shadow", "another program's TOML", "broken"],
)
@pytest.mark.parametrize("way", ["absolute", "relative", "link"])
def test_files_elsewhere_are_not_quoted(content: str, way: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text(content)
    folder = tmp_path / "scenarios"
    folder.mkdir()
    name = {"absolute": str(outside), "relative": "../outside", "link": "beside"}[way]
    if way == "link":
        (folder / name).symlink_to(outside)
    (folder / "own.toml").write_text(f'topology = "{name}"\nduration = "1s"\n{FLOW}')
    for read in (load, load_topology):
        with pytest.raises(ScenarioError, match="nothing of it is shown") as caught:
            read(folder / "own.toml")
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_topology_elsewhere_is_used_where_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "shared.toml").write_text('hosts = ["a", "b"]\n' + LINK)
    folder = tmp_path / "scenarios"
    folder.mkdir()
    (folder / "own.toml").write_text(f'topology = "../shared.toml"\nduration = "1s"\n{FLOW}')
    assert load(folder / "own.toml").topology.link("l").forward.rate_bps == 1_000_000


def test_a_topology_beside_it_tells_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "shared.toml").write_text('hosts = ["a", "b\n')
    (tmp_path / "own.toml").write_text(f'topology = "shared.toml"\nduration = "1s"\n{FLOW}')
    with pytest.raises(ScenarioError, match=r"shared\.toml, line 1"):
        load(tmp_path / "own.toml")

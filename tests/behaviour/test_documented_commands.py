"""Every command that README and documentation show is run, or stands here with the reason why not.

A page is a session in an empty folder: its files are written, its commands run in order, and then
its Python.  Commands that need Linux are run in a session of their own, which the ``kernel`` marker
holds back where this machine cannot.  ``docs/commands.txt`` lists all commands and how each is
tested; write it anew with ``python -m tests.behaviour.test_documented_commands``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from tests.behaviour.documentation import DOCS, PAGES, ROOT, Code, Command, File, Page, read

import mptcplab

LIST: Final = DOCS / "commands.txt"
LONGEST_S: Final = 300
UNDER_TEST: Final = str(Path(mptcplab.__file__).parents[1])
"""Where the package is that the tests import: the sources, or an installed wheel."""

# What is not run: a pattern of the whole command, and why.
NOT_RUN: Final = {
    r"make \w+": "installs or builds; CI runs these targets themselves",
    r"make test-kernels KERNELS=.*": "minutes in virtual machines; CI does it with one kernel",
    r"\. \.venv/bin/activate": "activates an environment that a test has no need of",
    r"python bench/.*"
    r"|python -m bench\.((kernel_)?equilibria|examples|offload|ports_and_paths|sctp|hosts_and).*": (
        "measures for minutes, on a quiet machine"
    ),
    r"python -m bench\.papers": "simulates for many minutes",
    r"python -m bench\.packetdrill .*": "plays scripts that are not part of mptcplab",
    r"mptcplab goals( I)? --congestion lia": "repetitions of 120 s and more: minutes uncompiled",
    r"mptcplab goals --congestion lia --duration 60s --repetitions 3": "a minute uncompiled",
    r"mptcplab reproduce A B F H I --on simulated --on linux .*": "minutes of real time",
    r"mptcplab reproduce examples/gridftp --on linux .*": "a quarter of an hour of real time",
    r"mptcplab reproduce C D --on linux .*": "needs a machine that carries 20 Gb/s",
    r"mptcplab run E --on linux .*": "needs a machine that carries 10 Gb/s",
    r"pip install 'mptcplab\[hosts\]'": "installs",
    r"mptcplab hosts mine\.toml (check|up|status|down)|mptcplab monitor --ssh root@left\.example"
    r"|mptcplab run mine\.toml --on hosts --out first|mptcplab page first": (
        "logs in to machines of the reader's; tests/linux/remote runs the same on some of its own"
    ),
    r"mptcplab monitor eth0 eth1": "watches interfaces of the reader's machine until stopped",
    r"mptcplab host server\.example:443|mptcplab host --capture lan\.pcap server\.example:443": (
        "connects to a server of the reader's"
    ),
    r"unshare -rn python play\.py": "the reader's script; tests/linux/sockets runs the page's code",
}

# Python that has a test of its own, with what it needs around it.
CODE_TESTED_ELSEWHERE: Final = {
    "docs/extend/sockets.md": "tests/linux/sockets/test_sockets_page.py",
}

# Python that reads what commands on Linux have left.
CODE_ABOUT_LINUX_RUNS: Final = {"docs/kernel-developers.md"}

# Exit status 1 is an answer: a goal undecided, a machine too slow for a run to be valid, a host
# with fewer subflows than addresses.
MAY_SAY_NO: Final = re.compile(r"mptcplab (goals|host)|--on linux")

_LINUX = re.compile(r"--on linux|^mptcplab (lab|doctor|monitor|host)\b")
_VARIES = [
    (re.compile(r"[\d.]+ s in all"), "... s in all"),
    (re.compile(r"runs/\S+"), "runs/..."),
]


def reason_not_run(command: Command) -> str | None:
    """Return why a command is not run, None where it is."""
    for pattern, reason in NOT_RUN.items():
        if re.fullmatch(pattern, command.line):
            return reason
    return None


def needs_linux(command: Command) -> bool:
    """Say whether a command needs the Linux testbed."""
    return bool(_LINUX.search(command.line))


def listing() -> str:
    """Return what ``docs/commands.txt`` should hold."""
    lines = ["Every command of README and documentation, and how it is tested.", ""]
    for path in PAGES:
        commands = read(path).commands
        if not commands:
            continue
        lines.append(commands[0].page)
        for command in commands:
            reason = reason_not_run(command)
            how = f"not run: {reason}" if reason else "Linux" if needs_linux(command) else "run"
            lines.append(f"    {command.line}\n        {how}")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture(name="session")
def empty_folder(tmp_path: Path) -> Path:
    """Return an empty folder in which the paths of the sources that pages name are there."""
    for name in ("src", "tests", "bench"):
        (tmp_path / name).symlink_to(ROOT / name)
    programs = tmp_path / ".programs"
    programs.mkdir()
    for name, arguments in (("mptcplab", "-m mptcplab"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    return tmp_path


@pytest.fixture(name="apart")
def mounts_of_its_own() -> Iterator[list[str]]:
    """Yield what runs a command with a registry of labs of its own, so that none meets another."""
    mount = "mkdir -p /run/mptcplab && mount -t tmpfs -o mode=0700 none /run/mptcplab"
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{mount} && echo ready && exec sleep infinity"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    enter = ["nsenter", "--target", str(holder.pid), "--mount"]
    try:
        assert holder.stdout.readline() == "ready\n"
        yield enter
        subprocess.run(
            [*enter, sys.executable, "-m", "mptcplab", "lab", "down", "--all"],
            env={**os.environ, "PYTHONPATH": UNDER_TEST},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def run(folder: Path, line: str, within: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command line in a page's folder, with the package under test."""
    paths = [UNDER_TEST, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PATH": f"{folder / '.programs'}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(paths),
        "COLUMNS": "120",
    }
    return subprocess.run(
        [*within, "bash", "-euo", "pipefail", "-c", f"cd {folder}; {line}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )


def play(page: Page, folder: Path, *, linux: bool, within: Sequence[str] = ()) -> None:
    """Write a page's files, run those of its commands that need Linux or those that do not."""
    for part in page.parts:
        if isinstance(part, File):
            (folder / part.name).write_text(part.text)
        elif isinstance(part, Command) and needs_linux(part) == linux and not reason_not_run(part):
            done = run(folder, part.line, within)
            allowed = (0, 1) if MAY_SAY_NO.search(part.line) else (0,)
            assert done.returncode in allowed, f"{part.line}\n{done.stdout}{done.stderr}"
            assert_shown(part, done.stdout)
    if has_code(page, linux=linux):
        code = "\n".join(part.text for part in page.parts if isinstance(part, Code))
        (folder / "code.py").write_text(code)
        done = run(folder, "python code.py", within)
        assert done.returncode == 0, done.stderr


def has_code(page: Page, *, linux: bool) -> bool:
    """Say whether a page's Python belongs to its session with Linux, or to the one without."""
    has_any = any(isinstance(part, Code) for part in page.parts)
    is_for_linux = page.name in CODE_ABOUT_LINUX_RUNS
    return has_any and page.name not in CODE_TESTED_ELSEWHERE and is_for_linux == linux


def assert_shown(command: Command, printed: str) -> None:
    """Compare the lines that a page shows with what was printed; "..." skips any number."""
    if not command.output:
        return
    lines = [_constant(line) for line in printed.splitlines()]
    place, skipping = 0, False
    for line in map(_constant, command.output):
        if line.strip() == "...":
            skipping = True
            continue
        if skipping:
            assert line in lines[place:], f"{command.line}: not printed there: {line}"
            place = lines.index(line, place)
        else:
            assert place < len(lines), f"{command.line}: nothing printed for: {line}"
            assert lines[place] == line, f"{command.line}: shown and printed differ"
        place, skipping = place + 1, False
    rest = [line for line in lines[place:] if line]
    assert skipping or not rest, f"{command.line}: more was printed than is shown: {rest[0]}"


def _constant(line: str) -> str:
    for pattern, constant in _VARIES:
        line = pattern.sub(constant, line)
    return line.rstrip()


def _with(pages: Iterable[Page], *, linux: bool) -> list[Page]:
    return [
        page
        for page in pages
        if any(needs_linux(each) == linux and not reason_not_run(each) for each in page.commands)
        or has_code(page, linux=linux)
    ]


@pytest.mark.documented
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page", _with(map(read, PAGES), linux=False), ids=lambda page: str(page.name)
)
def test_the_commands_of_a_page(page: Page, session: Path) -> None:
    play(page, session, linux=False)


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page", _with(map(read, PAGES), linux=True), ids=lambda page: str(page.name)
)
def test_the_linux_commands_of_a_page(page: Page, session: Path, apart: list[str]) -> None:
    play(page, session, linux=True, within=apart)


def test_every_reason_is_needed() -> None:
    commands = [command for path in PAGES for command in read(path).commands]
    for pattern in NOT_RUN:
        assert any(re.fullmatch(pattern, command.line) for command in commands), pattern
    for page, test in CODE_TESTED_ELSEWHERE.items():
        assert any(isinstance(part, Code) for part in read(ROOT / page).parts), page
        assert Path(page).name in (ROOT / test).read_text(), test
    for page in CODE_ABOUT_LINUX_RUNS:
        assert has_code(read(ROOT / page), linux=True), page


def test_the_list_of_commands_is_current() -> None:
    assert LIST.read_text(encoding="utf-8") == listing(), (
        "run: python -m tests.behaviour.test_documented_commands"
    )


if __name__ == "__main__":
    LIST.write_text(listing(), encoding="utf-8")

"""Write the completion scripts of shells and the man page, which follow from the parser.

python docs/shell.py            write them
python docs/shell.py --check    say which are not current; exit status 1 where one is not
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import shtab
from argparse_manpage.manpage import Manpage

import mptcplab
from mptcplab.cli.completion import FILES
from mptcplab.cli.main import build_parser
from mptcplab.scenario.schema.source_files import built_in_scenarios

ROOT: Final = Path(__file__).resolve().parents[1]
COMPLETIONS: Final = ROOT / "src" / "mptcplab" / "cli" / "completions"
MAN_PAGE: Final = ROOT / "docs" / "man" / "mptcplab.1"

_SCENARIOS: Final = {
    "bash": "_mptcplab_scenarios",
    "zsh": "_mptcplab_scenarios",
    "fish": "(_mptcplab_scenarios)",
    "tcsh": "f",
}
_FOLDERS: Final = ("DIR", "RUN")
"""What stands for a folder in usages; other paths are of files, or of both."""


def parser_with_files() -> argparse.ArgumentParser:
    """Return the whole parser, each argument that takes a path or scenario marked as such."""
    parser = build_parser(everything=True)
    _describe_briefly(parser)
    for action in (action for each in _parsers(parser) for action in each._actions):
        complete: Any = None
        if action.dest in ("scenario", "scenarios"):
            complete = _SCENARIOS
        elif action.type is Path:
            complete = shtab.DIRECTORY if action.metavar in _FOLDERS else shtab.FILE
        if complete is not None:
            action.complete = complete  # type: ignore[attr-defined]
    return parser


def _describe_briefly(parser: argparse.ArgumentParser) -> None:
    """Give sub-commands the line that lists have of them, which is what fits into a menu."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                action.choices[choice.dest].description = choice.help
                _describe_briefly(action.choices[choice.dest])


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _parsers(below)


def _preamble() -> Any:
    """Return functions that complete a scenario: built-in names, and files."""
    names = " ".join(
        name if "/" in name or len(name) > 1 else name.upper() for name in built_in_scenarios()
    )
    return {
        "bash": f'_mptcplab_scenarios() {{\n  compgen -W "{names}" -- "$1"\n'
        '  _shtab_compgen_files "$1"\n}\n',
        "zsh": f"_mptcplab_scenarios() {{\n  compadd -- {names}\n  _files\n}}\n",
        "fish": f"function _mptcplab_scenarios\n  printf '%s\\n' {names}\n"
        "  __fish_complete_path (commandline -ct)\nend\n",
    }


def scripts() -> dict[Path, str]:
    """Return the completion scripts by their paths."""
    parser, preamble = parser_with_files(), _preamble()
    made = {}
    for shell, name in FILES.items():
        text = shtab.complete(parser, shell, preamble=preamble.get(shell, ""))
        lines = [line.rstrip() for line in text.rstrip().splitlines()]
        made[COMPLETIONS / name] = "\n".join(lines) + "\n"
    return made


def man_page() -> str:
    """Return the page of section 1 on all commands."""
    data: dict[str, Any] = {
        "prog": "mptcplab",
        "project_name": "mptcplab",
        "version": mptcplab.__version__,
        "date": f"version {mptcplab.__version__}",
        "description": "a laboratory for Multipath TCP",
        "manual_section": "1",
        "manual_title": "Commands of mptcplab",
    }
    parser = build_parser(everything=True)
    parser.description = (
        "mptcplab describes hosts, links, flows and a timeline of Multipath TCP in one file, runs "
        "it in simulation or on this machine's kernel, and shows what happened on every subflow."
    )
    parser._positionals.title = "COMMANDS"
    for below in _parsers(parser):  # the page's maker leaves epilogues out
        below.description = " ".join(filter(None, [below.description, below.epilog]))
    text = str(Manpage(parser, _data=data))
    lines = (line.rstrip() for line in text.splitlines())
    # a line that begins with an apostrophe would be a request to roff
    return "\n".join(f"\\&{line}" if line.startswith("'") else line for line in lines) + "\n"


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    check = parser.parse_args().check
    files = {**scripts(), MAN_PAGE: man_page()}
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{'not current' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

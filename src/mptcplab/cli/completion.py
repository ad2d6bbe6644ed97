"""``mptcplab completion``: print what makes a shell complete commands and options."""

from __future__ import annotations

import argparse
from importlib import resources
from typing import Final

FILES: Final = {"bash": "mptcplab.bash", "fish": "mptcplab.fish", "zsh": "_mptcplab"}
"""By shell: the script, beside this module, under the name that the shell looks for."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "completion",
        help="print what makes a shell complete commands and options",
        description="Print the script with which a shell completes the commands and options of "
        "mptcplab, the names of scenarios, and files. A system-wide installation has the scripts "
        "where shells look for them; elsewhere, put one of these into the shell's start-up file.",
        epilog='bash (~/.bashrc): eval "$(mptcplab completion bash)"; zsh (~/.zshrc, after '
        'compinit): eval "$(mptcplab completion zsh)"; fish: mptcplab completion fish > '
        "~/.config/fish/completions/mptcplab.fish. Exit status: 0 printed.",
    )
    parser.add_argument("shell", choices=sorted(FILES), help="for which shell")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script; 0."""
    folder = resources.files("mptcplab.cli") / "completions"
    print((folder / FILES[args.shell]).read_text(encoding="utf-8"), end="")
    return 0

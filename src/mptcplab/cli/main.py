"""The ``mptcplab`` command: its sub-commands, and how errors and interrupts end it.

Exit status: 0 done and valid, 1 an invalid run, 2 bad input, 3 this machine cannot, 129, 130 and
143 after SIGHUP, SIGINT and SIGTERM.  Nothing is imported until a sub-command needs it, argparse
included: it takes as long to load as Python itself to start, and the commands' list needs none of
it.
"""

from __future__ import annotations

import errno
import os
import sys

from mptcplab import __version__

TYPE_CHECKING = False  # of typing, which costs --help 10 ms
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from typing import Final, NoReturn

INVALID_RUN: Final = 1
BAD_INPUT: Final = 2
MACHINE_CANNOT: Final = 3
INTERRUPTED: Final = 130

# What --help lists, in its order.  Only the module of the command that is asked for is imported.
COMMANDS: Final = {
    "run": "run a scenario and show what came out",
    "check": "validate a scenario or topology and print what it would build",
    "compare": "run variants of a scenario several times and say which is better",
    "sweep": "run a scenario over many settings and seeds, and sum the runs up",
    "experiments": "list the built-in scenarios and the question each asks",
    "lab": "start a persistent testbed and work in it",
    "doctor": "say what this machine can do, and what to do about what it cannot",
    "reproduce": "run experiments with their sweeps and sum them up",
    "runs": "list the runs of a folder, their sizes, and remove some",
    "show": "show a finished run again, or several in one figure",
    "page": "write one HTML file that shows runs, comparisons and captures",
    "host": "say why this host makes the subflows that it makes, and no others",
    "hosts": "look at real hosts of a scenario, set them up, and undo that",
    "monitor": "watch MPTCP connections, or rates of interfaces",
    "inspect": "explain captures, or a run's captures",
    "buffers": "say how large buffers must be, for a scenario or for rates and round trips",
    "goals": "judge a congestion control by the three goals of RFC 6356, and its fairness",
    "schema": "print the scenario file's JSON Schema, for editors",
    "completion": "print what makes a shell complete commands and options",
}


HELP: Final = f"""\
usage: mptcplab [-h] [--version] COMMAND ...

A laboratory for Multipath TCP: describe hosts, links, flows and a timeline in
one file, run it, and see what happened on every subflow.

commands:
{chr(10).join(f"    {name:<14}{summary}" for name, summary in COMMANDS.items())}

options:
    -h, --help    show this help message and exit; after a command, the command's
    --version     show the version and exit

Start with `mptcplab experiments`, then `mptcplab run A`.
"""


_ASKS_FOR_HELP: Final = (["-h"], ["--help"])


def build_parser(
    command: str | None = None, *, everything: bool = False
) -> argparse.ArgumentParser:
    """Return the parser; of the sub-commands only ``command`` gets its arguments, or all do."""
    import argparse
    import importlib

    class Parser(argparse.ArgumentParser):
        """Says what a mistyped command or option may have been meant to be."""

        def error(self, message: str) -> NoReturn:
            below = [each.choices for each in self._actions if isinstance(each.choices, dict)]
            parsers = [self, *(parser for choices in below for parser in choices.values())]
            options = [name for parser in parsers for name in parser._option_string_actions]
            super().error(_with_guess(message, options))

    parser = Parser(prog="mptcplab", usage="mptcplab [-h] [--version] COMMAND ...")
    parser.format_help = lambda: HELP  # type: ignore[method-assign]
    parser.add_argument("--version", action="version", version=f"mptcplab {__version__}")
    subparsers = parser.add_subparsers(prog="mptcplab", metavar="COMMAND", required=True)
    for name in COMMANDS:
        if everything or name == command:
            importlib.import_module(f"mptcplab.cli.{name}").add_parser(subparsers)
        elif command not in COMMANDS:  # each takes a while to make, and argparse names them all
            subparsers.add_parser(name)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    from mptcplab.cli.terminal import protect_terminal

    before = sys.stdout, sys.stderr
    protect_terminal()
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    finally:
        sys.stdout, sys.stderr = before


def _main(arguments: list[str]) -> int:
    if arguments in _ASKS_FOR_HELP:
        print(HELP, end="")
        return 0
    from mptcplab.cli.verbosity import choose_verbosity
    from mptcplab.loop.stop_signals import Stopped, forget_stop_signals, stop_received

    forget_stop_signals()
    command = next((word for word in arguments if not word.startswith("-")), None)
    try:
        args = build_parser(command).parse_args(arguments)
        choose_verbosity(args)
        status: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        return _say_stopped(stop)
    except BrokenPipeError:
        # whoever read our output has seen enough; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message, status = _explain(error)
        if message is None:
            number = stop_received()
            if number is not None:  # extension modules make other errors of what interrupts them
                return _say_stopped(Stopped(number))
            raise
        print(f"mptcplab: {message}", file=sys.stderr)
    return status


def _with_guess(message: str, options: Iterable[str]) -> str:
    """Return argparse's message; of a mistyped word with the nearest that there is."""
    from difflib import get_close_matches

    if message.startswith("argument COMMAND: invalid choice: "):
        word = message.removeprefix("argument COMMAND: invalid choice: ").partition(" (")[0]
        word = word.strip("'")
        message = f'there is no command "{word}"'
        known: Iterable[str] = COMMANDS
    elif message.startswith("unrecognized arguments: -"):
        word = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        known = options
    else:
        return message
    close = get_close_matches(word, list(known), n=1)
    return f'{message}; did you mean "{close[0]}"?' if close else message


def _explain(error: Exception) -> tuple[str | None, int]:
    """Return the message and exit status of an error that a user can cause."""
    status = getattr(error, "exit_status", None)
    if status is not None:
        return str(error), int(status)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{error.filename}: this name is too long for a file", BAD_INPUT
    limit = _exceeded_limit(error)
    return (None, INVALID_RUN) if limit is None else (limit, MACHINE_CANNOT)


def _exceeded_limit(error: Exception) -> str | None:
    """Return what of this machine, or of what it lets a process have, was not enough."""
    if isinstance(error, MemoryError):
        number: int | None = errno.ENOMEM
    elif isinstance(error, ImportError) and "failed to map segment" in str(error):  # of dlopen
        return f"not enough memory, or a limit on it (ulimit -v) is too low: {error}"
    elif isinstance(error, OSError):
        number = error.errno
    else:
        return None
    name = getattr(error, "filename", None)
    of = f" of {name}" if name else ""
    match number:
        case errno.ENOMEM:
            return "not enough memory, or a limit on it (ulimit -v, a control group) is too low"
        case errno.ENOSPC:
            return f"no space left on the device{of}"
        case errno.EDQUOT:
            return f"the disk quota{of} is used up"
        case errno.EFBIG:
            return f"{name or 'what is written'}: a file would be larger than the limit (ulimit -f)"
        case errno.EMFILE | errno.ENFILE:
            return f"too many open files{of}: raise the limit (ulimit -n)"
    return None


def _say_stopped(stop: KeyboardInterrupt) -> int:
    """Say in one line that a signal ended the command; return the exit status."""
    text = str(stop) or "SIGINT"
    notes = "".join(f"; {note}" for note in getattr(stop, "__notes__", ()))
    print(f"mptcplab: stopped by {text}{notes}", file=sys.stderr)
    return 128 + getattr(stop, "number", INTERRUPTED - 128)


def _end_if_interrupted(unraisable: sys.UnraisableHookArgs, /) -> None:
    """End the process if SIGINT came in a callback, as imports have them; nothing was begun yet."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        status = _say_stopped(unraisable.exc_value)
        sys.stderr.flush()
        os._exit(status)
    sys.__unraisablehook__(unraisable)


def entry() -> None:
    """Start the command from the shell."""
    sys.unraisablehook = _end_if_interrupted  # until raise_on_stop_signal has one of its own
    try:
        from mptcplab.cli.terminal import protect_terminal

        if sys.argv[1:] in _ASKS_FOR_HELP:
            sys.exit(main())
        from mptcplab.loop.stop_signals import end_at_once_on_stop_signal, raise_on_stop_signal

        raise_on_stop_signal()
        protect_terminal()  # of the traceback of a bug too
        status = main()
        end_at_once_on_stop_signal()
    except KeyboardInterrupt as stop:  # while an error was being explained, or before the first
        status = _say_stopped(stop)
    sys.exit(status)

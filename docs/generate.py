"""Write the pages of the reference that follow from the program, and the list of all commands.

    python docs/generate.py            write them
    python docs/generate.py --check    say which are not current; exit status 1 where one is not

The pages of the commands follow from the argument parser, the page of the scenario file from its
schema, that of the tables from ``mptcplab.results.tables``.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import Final

from mptcplab.cli.main import COMMANDS, build_parser
from mptcplab.results import tables
from mptcplab.scenario.schema.documentation import reference_page

DOCS: Final = Path(__file__).resolve().parent

# What stands on a command's page below its options.  These are run, as all commands of the pages.
EXAMPLES: Final = {
    "run": [
        "mptcplab run A --duration 2s",
        "mptcplab run F --duration 2s --set flows.main.buffer=4MB --json",
        "mptcplab run H --duration 2s --repetitions 3 --out repeated",
        "mptcplab run A --on linux --duration 3s --out on-linux",
    ],
    "check": ["mptcplab check B", "mptcplab check F --set flows.main.buffer=4MB"],
    "compare": [
        "mptcplab compare F --variant flows.main.buffer=4MB --repetitions 2 --duration 2s",
    ],
    "sweep": [
        "mptcplab sweep F --over flows.main.buffer=1MB,4MB --duration 2s --out grid",
        "mptcplab sweep A --over 'links.*.rtt=1..50ms:log' --draws 3 --duration 1s --dry-run",
    ],
    "experiments": ["mptcplab experiments", "mptcplab experiments --json"],
    "lab": [
        "mptcplab lab up report",
        "mptcplab lab list",
        "mptcplab lab exec bliksem -- ip -brief address",
        "mptcplab lab links wan --down",
        "mptcplab lab links all --speed 1",
        "mptcplab lab links lan --speed 10 --host bliksem",
        "mptcplab lab links link4 bliksem:eth8 --up",
        "mptcplab lab down report",
    ],
    "doctor": ["mptcplab doctor"],
    "reproduce": [
        "mptcplab reproduce A H --duration 2s --out reproduced",
        "mptcplab reproduce H --duration 2s --repetitions 2 --out repeated",
    ],
    "runs": ["mptcplab run A --duration 2s", "mptcplab runs"],
    "show": [
        "mptcplab run A --duration 2s --out first",
        "mptcplab show first",
        "mptcplab run A --duration 2s --set flows.main.buffer=1MB --out second",
        "mptcplab show first second -o both",
    ],
    "host": ["mptcplab host", "mptcplab host --json", "mptcplab host --fix"],
    "page": [
        "mptcplab run A --duration 2s --out seen",
        "mptcplab page seen -o seen.html",
        "mptcplab page tests/captures/handover.pcap.gz -o handover.html",
        "mptcplab page seen tests/captures/handover.pcap.gz -o both.html --title 'Two parts'",
    ],
    "hosts": [],
    "monitor": ["mptcplab monitor lo --count 2", "mptcplab monitor --count 1"],
    "inspect": [
        "mptcplab inspect tests/captures/handover.pcap.gz",
        "mptcplab inspect tests/captures/handover.pcap.gz --filter 'subtype == join'",
        "mptcplab inspect tests/captures/handover.pcap.gz --filter 'tcp.flags.syn == 1' -w s.pcap",
        "mptcplab inspect tests/captures --connections --sort bytes",
    ],
    "buffers": ["mptcplab buffers F", "mptcplab buffers 1Gb/s@33.3ms 300Mb/s@202ms"],
    "goals": ["mptcplab goals --congestion olia --duration 10s --repetitions 2"],
    "schema": ["mptcplab schema -o scenario.schema.json"],
    "completion": ["mptcplab completion bash"],
}

STATUSES: Final = {
    "run": "0 the run is valid, 1 it is not.",
    "compare": "0 every run is valid, 1 one is not.",
    "show": "0 every run is valid, 1 one is not.",
    "reproduce": "0 every run is valid, 1 one is not.",
    "goals": "0 every goal is met, 1 one is missed or undecided.",
    "host": "0 as many subflows as usable addresses, 1 fewer, or not known.",
    "doctor": "0 the Linux testbed can run here, 3 it cannot.",
    "lab": "0; of `lab exec`, that of the command.",
}

# What goes without a comment in the source, or without a help text.
SAID: Final = {
    "time_ns": "from the start of the run; in `flows` and `links`, the end of the interval",
    "interval_ns": "length of the interval that the row describes",
    "flow": "its name in the scenario",
    "connection": "0, 1, ... within the flow",
    "subflow": "0, 1, ... in order of establishment",
    "host": "its name in the scenario",
    "link": "its name in the scenario",
    "protocol": "mptcp, tcp or fallback",
    "goodput_bps": "`bytes` as a rate",
    "up": "state at the end of the interval",
    "tx_packets": "as packets on the wire, whatever offload made of them",
    "queue_packets": "waiting at the end of the interval",
    "remote": "as `local`",
    "backup": "whether it is used only where no other subflow works",
    "cwnd_bytes": "congestion window",
    "srtt_ns": "smoothed round trip (RFC 6298)",
    "rttvar_ns": "its variation (RFC 6298)",
    "rto_ns": "retransmission timeout",
    "mss_bytes": "largest payload of a segment",
    "in_flight_bytes": "sent and neither acknowledged nor taken for lost",
    "bytes_received": "payload, each byte once",
    "bytes_retransmitted": "payload sent again on the same subflow",
    "lost_packets": "taken for lost",
    "subflows": "that are established",
    "receive_buffer_bytes": "size of the buffer",
    "bytes_sent": "of the connection's stream",
    "bytes_reinjected": "sent again on another subflow",
    "bytes_duplicate": "received twice",
    "receive_window_bytes": "offered by this host",
    "receive_window_limited_ns": "of that, waiting for the peer's window",
    "send_buffer_limited_ns": "and waiting for the application, whose send buffer was full",
    "event": "what happened, such as `subflow-established`",
    "detail": "more about it, in words",
    "counter": "its name, such as `MPTcpExtMPJoinSynTx`",
    "before": "at the start of the run",
    "after": "at its end",
    "HOST": "A host of the testbed.",
    "-- COMMAND": "The program to run there, and its arguments.",
    "NAME": "The testbed; may be left out where only one stands.",
}

_WRITTEN = "<!-- Written by docs/generate.py from the program; change it there. -->"


def pages() -> dict[Path, str]:
    """Return every generated page of the reference by its path."""
    made = {
        DOCS / "reference" / "scenario.md": reference_page(),
        DOCS / "reference" / "tables.md": _tables_page(),
        DOCS / "reference" / "commands" / "index.md": _commands_index(),
    }
    for name in COMMANDS:
        made[DOCS / "reference" / "commands" / f"{name}.md"] = _command_page(name)
    return made


def _commands_index() -> str:
    rows = [f"| [`mptcplab {name}`]({name}.md) | {text} |" for name, text in COMMANDS.items()]
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *COMMANDS, "```"])
    return "\n".join(
        [
            "# Commands",
            "",
            _WRITTEN,
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
            "`mptcplab COMMAND --help` shows the same in a terminal. What a command returns to the "
            "shell is on the page of [exit statuses](../exit-statuses.md).",
            "",
            toctree,
            "",
        ]
    )


def _command_page(name: str) -> str:
    parser = _subparsers(build_parser(name))[name]
    lines = [f"# mptcplab {name}", "", _WRITTEN, ""]
    lines += _parser_section(parser, COMMANDS[name])
    for action, nested in _subparsers(parser).items():
        lines += [f"## mptcplab {name} {action}", ""]
        lines += _parser_section(nested, _summary_of(parser, action))
    if name in STATUSES:
        lines += [
            "## Exit status",
            "",
            f"{STATUSES[name]} For errors see [exit statuses](../exit-statuses.md).",
            "",
        ]
    lines += ["## Examples", "", "```sh", *EXAMPLES[name], "```", ""]
    return "\n".join(lines)


def _parser_section(parser: argparse.ArgumentParser, summary: str) -> list[str]:
    """Return usage, description and arguments of one parser."""
    actions = [
        action
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
    ]
    lines = [_sentence(parser.description or summary), ""]
    nested = _subparsers(parser)
    usage = [parser.prog, *map(_usage, actions), *(["ACTION ..."] if nested else [])]
    lines += ["```text", *_wrapped(usage), "```", ""]
    if actions:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| {_name(action)} | {_meaning(parser, action)} |" for action in actions]
        lines.append("")
    if nested:
        lines += ["| action | what it does |", "|---|---|"]
        lines += [f"| `{word}` | {_summary_of(parser, word)} |" for word in nested]
        lines.append("")
    return lines


def _wrapped(words: list[str], width: int = 88) -> list[str]:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append(" " * (len(words[0]) + 1) + word)
        else:
            lines[-1] += " " + word
    return lines


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _summary_of(parser: argparse.ArgumentParser, name: str) -> str:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                if choice.dest == name:
                    return _sentence(choice.help or "")
    raise KeyError(name)


def _sentence(text: str) -> str:
    text = " ".join(text.replace("%%", "%").split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) else ".")


def _value(action: argparse.Action) -> str:
    """Return what stands for an argument's value, empty for a flag."""
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()


def _usage(action: argparse.Action) -> str:
    value = _value(action)
    if action.option_strings:
        text = f"{action.option_strings[0]} {value}".rstrip()
        return text if action.required else f"[{text}]"
    if action.nargs in ("?", "*"):
        return f"[{value}{' ...' if action.nargs == '*' else ''}]"
    return f"{value} ..." if action.nargs == "+" and "..." not in value else value


def _name(action: argparse.Action) -> str:
    value = _value(action)
    names = action.option_strings or [""]
    return ", ".join(f"`{f'{name} {value}'.strip()}`" for name in names).replace("|", "\\|")


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    if isinstance(action, argparse._VersionAction):
        return "Print the version."
    formatter = parser._get_formatter()
    text = _sentence(formatter._expand_help(action)) if action.help else SAID[_value(action)]
    if action.choices is not None and isinstance(action.metavar, str):
        text += f" One of {', '.join(map(str, action.choices))}."
    return text.replace("|", "\\|").replace("*", "\\*")


def _tables_page() -> str:
    """Return the page of the tables; what a column means is its comment in the source."""
    comments = _comments()
    lines = [
        "# Tables",
        "",
        _WRITTEN,
        "",
        "A run's folder holds these tables in Parquet files of their names. They have the same",
        "columns from every testbed; `mptcplab inspect --tables` writes four of them of a capture,",
        "and two of its own. [What a run leaves](results.md) says how to read them.",
        "",
    ]
    for table, columns in tables.TABLES.items():
        lines += [f"## {table}", "", _sentence(comments[table, ""]), ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        for column, kind in columns.items():
            meaning = comments.get((table, column)) or SAID[column]
            lines.append(f"| `{column}` | {kind} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _comments() -> dict[tuple[str, str], str]:
    """Return the comments of the source of ``TABLES`` by table and column."""
    found: dict[tuple[str, str], str] = {}
    table = ""
    for line in inspect.getsource(tables).splitlines():
        opened = re.match(r' {4}"(\w+)": \{  # (.*)', line)
        column = re.match(r' {8}"(\w+)": "\w+",(?:  # (.*))?', line)
        if opened:
            table = opened[1]
            found[table, ""] = opened[2]
        elif column and column[2]:
            found[table, column[1]] = column[2]
    return found


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    check = parser.parse_args().check
    stale = [
        path
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        print(f"{'not current' if check else 'written'}: {path.relative_to(DOCS.parent)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages()[path], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

"""The text of a script: options, and events with their times.

Only what the scripts for MPTCP use: commands in back quotes, system calls, TCP packets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SECOND_NS = 1_000_000_000


class ScriptError(Exception):
    """A line that is not understood."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the shell, perhaps of several lines."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A system call with the words of its arguments, and what it is to return."""

    name: str
    arguments: list[str]
    result: int
    error: str
    """Name of the errno, or empty where the script gives none."""


@dataclass(frozen=True, slots=True)
class Option:
    """A TCP option: its name, its lone words and its values by name."""

    name: str
    words: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Packet:
    """A TCP packet; sequence numbers are relative to the initial ones."""

    inbound: bool
    flags: str
    seq: int
    payload_bytes: int
    ack: int | None
    window: int | None
    options: list[Option]
    source: str = ""
    """Name of a variable that holds an address, or empty for that of the packet before."""
    destination: str = ""
    tos: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something at a time, absolute or after the event before."""

    line: int
    is_relative: bool
    start_ns: int
    end_ns: int
    """As ``start_ns``; what takes its time ends until then."""
    is_blocking: bool
    """Whether the script says that it takes its time ("0...1")."""
    body: Command | Call | Packet


@dataclass(slots=True)
class Script:
    """A whole script."""

    tolerance_ns: int = 4_000_000
    events: list[Event] = field(default_factory=list)


_TIME = re.compile(
    r"(?P<relative>\+)?(?P<start>\d+(?:\.\d+)?)"
    r"(?:(?P<kind>\.\.\.|~)\+?(?P<end>\d+(?:\.\d+)?))?\s+(?P<body>.*)",
    re.DOTALL,
)
_PACKET = re.compile(
    r"(?P<way>[<>])\s*(?:\[tos\s+(?P<tos>\w+)\]\s*)?"
    r"(?:(?:addr\[(?P<source>\w+)\]\s*)?>\s*addr\[(?P<destination>\w+)\]\s*)?"
    r"(?P<flags>[FSRPUEWC.]+)\s+(?P<seq>\d+):(?P<end>\d+)\((?P<size>\d+)\)"
    r"(?:\s*ack\s+(?P<ack>\d+))?(?:\s*win\s*(?P<window>\d+))?\s*(?:<(?P<options>.*)>)?\s*",
    re.DOTALL,
)
_CALL = re.compile(
    r"(?P<name>\w+)\s*\((?P<arguments>.*)\)\s*=\s*(?P<result>-?\w+)\s*(?P<rest>.*)", re.DOTALL
)
_WORD = re.compile(r"\w+\[[^\]]*\]|\w+=\w+\([^)]*\)|\w+=\S+|\S+")


def parse(text: str) -> Script:
    """Return a script. Raises ``ScriptError`` with the line that is not understood."""
    script = Script()
    for line, statement in _statements(text):
        if statement.startswith("--"):
            name, _, value = statement.partition("=")
            if name == "--tolerance_usecs":
                script.tolerance_ns = int(value) * 1_000
            continue
        if statement.startswith("`"):
            statement = "+0 " + statement
        script.events.append(_event(line, statement))
    return script


def _statements(text: str) -> list[tuple[int, str]]:
    """Return what belongs together, each with the number of its first line."""
    found: list[tuple[int, str]] = []
    pending = ""
    first = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)(//|#).*$", "", raw).strip()
        if not line:
            continue
        first = first if pending else number
        pending = f"{pending}\n{line}" if pending else line
        if pending.count("`") % 2 or _depth(pending) > 0:
            continue
        found.append((first, pending))
        pending = ""
    if pending:
        raise ScriptError(f"line {first}: what begins here does not end")
    return found


def _depth(text: str) -> int:
    return (
        0
        if "`" in text
        else sum(text.count(one) for one in "([{") - sum(text.count(one) for one in ")]}")
    )


def _event(line: int, statement: str) -> Event:
    match = _TIME.fullmatch(statement)
    if match is None:
        raise ScriptError(f"line {line}: expected a time: {statement!r}")
    start_ns = round(float(match["start"]) * SECOND_NS)
    end_ns = start_ns if match["end"] is None else round(float(match["end"]) * SECOND_NS)
    body = _body(line, match["body"].strip())
    is_blocking = match["kind"] == "..."
    return Event(line, match["relative"] is not None, start_ns, end_ns, is_blocking, body)


def _body(line: int, text: str) -> Command | Call | Packet:
    if text.startswith("`"):
        return Command(text.strip("`").strip())
    if text[0] in "<>":
        packet = _PACKET.fullmatch(text)
        if packet is not None:
            return _packet(packet)
    else:
        call = _CALL.fullmatch(text)
        if call is not None:
            return _call(call)
    raise ScriptError(f"line {line}: neither command, nor packet, nor call: {text!r}")


def _packet(match: re.Match[str]) -> Packet:
    return Packet(
        inbound=match["way"] == "<",
        flags=match["flags"],
        seq=int(match["seq"]),
        payload_bytes=int(match["size"]),
        ack=None if match["ack"] is None else int(match["ack"]),
        window=None if match["window"] is None else int(match["window"]),
        options=[_option(part) for part in split(match["options"] or "")],
        source=match["source"] or "",
        destination=match["destination"] or "",
        tos=None if match["tos"] is None else int(match["tos"], 0),
    )


def _option(text: str) -> Option:
    name, *words = _WORD.findall(text)
    option = Option(name)
    if name.startswith("addr["):
        raise ScriptError(f"an address where an option was expected: {text!r}")
    for word in words:
        key, equals, value = word.partition("=")
        if "[" in key:
            key, _, value = word.rstrip("]").partition("[")
            option.values[key] = value.strip()
        elif equals:
            option.values[key] = value
        else:
            option.words.append(word)
    return option


def _call(match: re.Match[str]) -> Call:
    rest = match["rest"].split()
    error = rest[0] if rest and rest[0][0] == "E" else ""
    return Call(match["name"], split(match["arguments"]), int(match["result"], 0), error)


def split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    parts: list[str] = []
    depth = 0
    start = 0
    for index, letter in enumerate(text):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]

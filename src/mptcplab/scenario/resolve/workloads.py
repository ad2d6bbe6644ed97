"""From the parsed keys of a flow to what its application does; keys of other applications are
refused.
"""

from __future__ import annotations

import shlex
from pathlib import Path as FilePath
from typing import Any, Final

from mptcplab.applications.distributions import Distribution
from mptcplab.applications.exchange import HEADER_BYTES
from mptcplab.applications.workloads import (
    Command,
    GridFtp,
    Messages,
    RequestResponse,
    Video,
    Web,
    Workload,
)
from mptcplab.scenario.errors import Path, Problems
from mptcplab.scenario.schema.value_kinds import InFile
from mptcplab.units import NANOSECONDS, UnitError, format_duration

Values = dict[str, Any]

MOST_MESSAGES: Final = 2_000_000
"""Rows of a run's requests or messages that a flow may come to."""
_MOST_LINES: Final = 1_000_000
_MOST_FILE_BYTES: Final = 64 << 20
_DATAGRAM_HEADERS_BYTES: Final = 48  # of IPv6 and UDP
_LADDER_BPS: Final = (400_000, 1_000_000, 2_500_000, 5_000_000, 8_000_000)

_OF_BULK: Final = ("size", "write_rate", "read_rate")
OWN_KEYS: Final = {
    "request-response": ("request", "response", "think", "persistent", "count", "arrivals"),
    "web": ("request", "response", "objects", "object_size", "think", "persistent", "count"),
    "video": ("request", "chunk", "ladder", "playout_buffer", "startup", "count"),
    "paced": ("rate", "message", "on", "off", "count"),
    "udp": ("rate", "message", "on", "off", "count"),
    "command": ("command", "server_command"),
    "gridftp": ("streams", "striped"),
}
"""The keys of each application that only some applications have."""


def build_workload(
    path: Path, values: Values, duration_ns: int, folder: FilePath, problems: Problems
) -> Workload | None:
    """Return what the application of a flow does; None for bulk, iperf3 and striped.

    ``values`` are the flow's keys, and under "mtu" the least of its links (bytes).
    ``folder`` is where files that the flow names are looked for.
    """
    application = values["application"]
    _check_keys(path, application, values, problems)
    if application not in OWN_KEYS:
        return None
    given: Values = {}
    for key in OWN_KEYS[application]:
        value = values[key]
        if isinstance(value, InFile):
            value = _read((*path, key), value, folder, key == "arrivals", problems)
        if value is not None:
            given[key] = value
    _check_shape(path, values, problems)
    _check_least(path, given, problems)
    workload: Workload
    if application == "request-response":
        workload = _request_response(path, values["connections"], given, problems)
    elif application == "web":
        workload = Web(**given)
    elif application == "video":
        workload = _video(path, given, problems)
    elif application == "command":
        workload = _command(path, given, problems)
    elif application == "gridftp":
        workload = _gridftp(path, values, given, problems)
    else:
        workload = _messages(path, values, given, problems)
    _check_amount(path, workload, values, duration_ns, problems)
    return workload


def _check_keys(path: Path, application: str, values: Values, problems: Problems) -> None:
    """Note keys of other applications, and of bulk's where it is not that."""
    own = OWN_KEYS.get(application, ())
    for key in dict.fromkeys(key for keys in OWN_KEYS.values() for key in keys):
        if values[key] is not None and key not in own:
            owners = [f'"{name}"' for name, keys in OWN_KEYS.items() if key in keys]
            problems.add(
                (*path, key),
                f'is not for application = "{application}"',
                f"application = {' or '.join(owners)}",
            )
    for key in _OF_BULK:
        if own and values[key] is not None and (application, key) != ("gridftp", "size"):
            problems.add(
                (*path, key),
                f'is not for application = "{application}"',
                f'one of its own keys ({", ".join(own)}), or application = "bulk"',
            )


def _check_shape(path: Path, values: Values, problems: Problems) -> None:
    """Note what fits no application with a client that asks."""
    application = values["application"]
    if values["client"] not in (None, values["from"]) and application != "gridftp":
        problems.add(
            (*path, "client"),
            f'"{values["client"]}" is not the one that asks under application = "{application}"',
            f'"{values["from"]}", or from and to the other way round',
        )
    if application in ("udp", "command") and values["protocol"] is not None:
        problems.add(
            (*path, "protocol"),
            f'is not for application = "{application}"',
            "a flow without the key: UDP is no stream"
            if application == "udp"
            else 'a flow without the key; "mptcpize run PROGRAM" as the command is for MPTCP',
        )
    if application in ("video", "udp", "command", "gridftp") and values["connections"] > 1:
        problems.add(
            (*path, "connections"),
            f'{values["connections"]} under application = "{application}", which has one',
            "streams, or several flows" if application == "gridftp" else "1, or several flows",
        )
    if application in ("udp", "command"):
        for key in ("buffer", "send_buffer", "receive_buffer"):
            if values[key] is not None:
                problems.add(
                    (*path, key),
                    f'is not for application = "{application}"',
                    "a flow without the key",
                )
    if application == "command" and values["verify"]:
        problems.add(
            (*path, "verify"),
            "what a program sends is not known",
            "verify = false, or a flow without the key",
        )


def _check_least(path: Path, given: Values, problems: Problems) -> None:
    """Note sizes that are too small for what stands at the head of each request and message."""
    for key, least in (
        ("request", HEADER_BYTES),
        ("message", HEADER_BYTES),
        ("response", 1),
        ("object_size", 1),
    ):
        sizes = given.get(key)
        if not isinstance(sizes, Distribution) or sizes.kind in ("exponential", "lognormal"):
            continue  # draws of these are never smaller, see Distribution.draw
        if sizes.least < least:
            problems.add(
                (*path, key),
                f"{sizes.least:g} bytes are too few",
                f"{least} bytes at least",
            )
    for key in ("on", "off", "arrivals"):
        times = given.get(key)
        if isinstance(times, Distribution) and times.kind == "fixed" and not times.first:
            problems.add((*path, key), "is 0", 'a duration above 0, such as "20ms"')


def _request_response(
    path: Path, connections: int, given: Values, problems: Problems
) -> RequestResponse:
    arrivals = given.get("arrivals")
    if arrivals is not None:
        given.setdefault("persistent", False)
        if "think" in given:
            problems.add(
                (*path, "think"),
                "is given together with arrivals, which come by the clock",
                "one of think, arrivals",
            )
        if connections > 1 and not given["persistent"]:
            problems.add(
                (*path, "connections"),
                f"{connections} where each request has a connection of its own",
                "persistent = true, or a flow without the key",
            )
    if isinstance(arrivals, tuple):
        given["arrival_times"] = given.pop("arrivals")
    return RequestResponse(**given)


def _video(path: Path, given: Values, problems: Problems) -> Video:
    chunk_ns: int = given.get("chunk", 4 * NANOSECONDS)
    buffer_ns: int = given.get("playout_buffer", max(30 * NANOSECONDS, chunk_ns))
    startup_ns: int = given.get("startup", chunk_ns)
    if buffer_ns < chunk_ns:
        problems.add(
            (*path, "playout_buffer"),
            f"{format_duration(buffer_ns)} holds no chunk of {format_duration(chunk_ns)}",
            "the length of a chunk at least",
        )
    elif startup_ns > buffer_ns:
        problems.add(
            (*path, "startup"),
            f"{format_duration(startup_ns)} is more than the buffer holds",
            f"at most the playout_buffer of {format_duration(buffer_ns)}",
        )
    more = {key: given[key] for key in ("request", "count") if key in given}
    return Video(chunk_ns, given.get("ladder", _LADDER_BPS), buffer_ns, startup_ns, **more)


def _messages(path: Path, values: Values, given: Values, problems: Problems) -> Messages:
    application = values["application"]
    if "rate" not in given:
        problems.add(
            (*path, "rate"),
            f'is missing under application = "{application}"',
            'a rate such as "5Mb/s"',
        )
    if ("on" in given) != ("off" in given):
        has, lacks = ("on", "off") if "on" in given else ("off", "on")
        problems.add((*path, has), f"is given without {lacks}", f"{has} with {lacks}, or neither")
    workload = Messages(given.pop("rate", 1), datagrams=application == "udp", **given)
    message = workload.message
    largest = max((message.first, message.second, *message.values))
    most = values["mtu"] - _DATAGRAM_HEADERS_BYTES
    if workload.datagrams and (
        message.kind not in ("fixed", "uniform", "values") or largest > most
    ):
        problems.add(
            (*path, "message"),
            "is more than a packet of its links holds",
            f"sizes of {most} bytes at most, fixed, uniform or of a file",
        )
    return workload


def _command(path: Path, given: Values, problems: Problems) -> Command:
    if not given.get("command", "").strip():
        problems.add(
            (*path, "command"),
            'is missing under application = "command"',
            'a program and its arguments, such as "curl http://{server}:{port}/"',
        )
    for key in ("command", "server_command"):
        try:
            shlex.split(given.get(key, ""))
        except ValueError as error:
            problems.add(
                (*path, key),
                f"cannot be split into arguments: {error}",
                "quotes that are closed, as in a shell",
            )
    return Command(given.get("command", ""), given.get("server_command", ""))


def _gridftp(path: Path, values: Values, given: Values, problems: Problems) -> GridFtp:
    if values["size"] is None:
        problems.add(
            (*path, "size"),
            'is missing under application = "gridftp", which moves a file',
            'a size such as "1GB"',
        )
    send_bytes, receive_bytes = (
        values[key] or values["buffer"] for key in ("send_buffer", "receive_buffer")
    )
    if send_bytes != receive_bytes:
        problems.add(
            (*path, "send_buffer"),
            "is not the receive_buffer, and GridFTP has one size for both (-tcp-bs)",
            "buffer, in place of both",
        )
    if values["family"] == "ipv6":
        problems.add((*path, "family"), "is not for GridFTP here, which runs over IPv4", '"ipv4"')
    return GridFtp(**given, download=values["client"] == values["to"])


def _check_amount(
    path: Path, workload: Workload, values: Values, duration_ns: int, problems: Problems
) -> None:
    """Note what would make more requests or messages than a run's tables take."""
    until_ns = duration_ns if values["stop"] is None else min(values["stop"], duration_ns)
    lasts_ns = max(until_ns - values["start"], 0)
    if isinstance(workload, Messages):
        share = 1.0
        if workload.on is not None and workload.off is not None:
            whole = workload.on.mean + workload.off.mean  # 0 is noted by now
            share = workload.on.mean / whole if whole else 1.0
        bytes_in_all = workload.rate_bps * share * lasts_ns / (8 * NANOSECONDS)
        number = values["connections"] * bytes_in_all / max(workload.message.mean, HEADER_BYTES)
        what, key = "messages", "rate"
    elif isinstance(workload, RequestResponse) and workload.arrivals is not None:
        number = lasts_ns / max(workload.arrivals.mean, 1)
        what, key = "requests", "arrivals"
    else:
        return
    if workload.count is not None:
        number = min(number, workload.count)
    if number > MOST_MESSAGES:
        problems.add(
            (*path, key),
            f"makes about {number:.3g} {what} in the run",
            f"{MOST_MESSAGES} at most, each of which is a row of a table",
        )


def _read(
    path: Path, source: InFile, folder: FilePath, is_times: bool, problems: Problems
) -> Distribution | tuple[int, ...] | None:
    """Return what a file of one value a line holds; its content is never quoted."""
    file = folder / source.name
    wanted = "a file of one value a line, relative to the scenario's folder"
    try:
        if not file.is_file() or file.stat().st_size > _MOST_FILE_BYTES:
            problems.add(path, f"{source.name} is no such file", wanted)
            return None
        with file.open(encoding="utf-8") as lines:
            texts = [line.strip() for _, line in zip(range(_MOST_LINES + 1), lines, strict=False)]
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        problems.add(path, f"{source.name} cannot be read: {why}", wanted)
        return None
    if len(texts) > _MOST_LINES:
        problems.add(path, f"{source.name} is too long", f"{_MOST_LINES} lines at most")
        return None
    values = []
    for number, text in enumerate(texts, start=1):
        if not text or text.startswith("#"):
            continue
        try:
            values.append(source.parse(_number(text)))
        except UnitError:
            problems.add(path, f"line {number} of {source.name} is no such value", wanted)
            return None
    if not values:
        problems.add(path, f"{source.name} holds no value", wanted)
        return None
    if is_times:
        return tuple(sorted(values))
    return Distribution("values", values=tuple(values))


def _number(text: str) -> float | str:
    """Return a line as TOML would have it: a number where it is one."""
    try:
        return float(text) if not text.isdigit() else int(text)
    except ValueError:
        return text

"""Reading a run's folder."""

from __future__ import annotations

import json
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mptcplab.plain_text import plain_values, printable
from mptcplab.results.shape import RUN, problems
from mptcplab.results.tables import ADDED, SCHEMA_VERSION, TABLES, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa


MOST_ROWS: Final = 20_000_000
"""Rows of a table that are read: an hour of fifty subflows, sampled every 10 ms."""
_MOST_BYTES: Final = 1 << 30
"""Of ``run.json``, and of a table's columns before they are decoded."""
_FILLED: Final = {
    "flows": ("time_ns", "interval_ns", "flow", "connection", "bytes", "goodput_bps"),
    "links": ("time_ns", "interval_ns", "link", "direction", "tx_bytes", "bps"),
    "subflows": ("time_ns", "host", "flow", "connection", "subflow"),
    "connections": ("time_ns", "host"),
    "limits": ("time_ns", "host", "flow", "connection", "limited_by", "duration_ns"),
    "requests": ("flow", "connection", "number", "start_ns", "request_bytes", "bytes"),
    "messages": ("flow", "connection", "number", "start_ns", "bytes"),
    "events": ("time_ns",),
    "counters": ("host", "counter"),
}
"""Columns that every testbed fills."""
_TIMES: Final = ("time_ns", "interval_ns", "start_ns", "first_byte_ns", "end_ns")
_MOST_NS: Final = 2**62
"""Of times in a table; the sum of two fits into 64 bits."""


class RunError(ValueError):
    """A folder that is not a run that this version can read; the text says what to do."""

    exit_status = 2  # bad input


class Run:
    """A finished run: its metadata, and its tables on demand."""

    def __init__(self, folder: Path | str) -> None:
        """Open a run; RunError where the folder is none, or is of a later version."""
        self.folder = Path(folder)
        try:
            text = (self.folder / "run.json").read_bytes()
        except FileNotFoundError as error:
            raise RunError(
                f"{self.folder}: not a run folder (no run.json); expected one that a run left"
            ) from error
        except OSError as error:
            raise RunError(
                f"{self.folder}: not a run folder (run.json cannot be read: {error.strerror})"
            ) from error
        try:
            metadata = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:  # neither JSON nor text at all
            raise RunError(f"{self.folder}/run.json: not JSON: {error}") from error
        plain_values(metadata)  # texts are for terminals and figures, whoever wrote them
        self.metadata: dict[str, Any] = metadata
        if not isinstance(metadata, dict):
            raise RunError(f"{self.folder}/run.json: not a run's metadata; expected a JSON object")
        version = self.metadata.get("schema")
        if not isinstance(version, int):
            raise RunError(f"{self.folder}/run.json: damaged: it states no schema")
        if version > SCHEMA_VERSION:
            raise RunError(
                f"{self.folder}: written in schema {version}; this version reads up to "
                f"{SCHEMA_VERSION}: update mptcplab"
            )

    @cached_property
    def scenario(self) -> dict[str, Any]:
        """The scenario as it was resolved for this run."""
        scenario: dict[str, Any] = self.metadata["scenario"]
        return scenario

    def check(self) -> None:
        """Raise RunError where ``run.json`` is not what every testbed writes."""
        missing: list[str] = []
        wrong = list(islice(problems(self.metadata, RUN, missing), 3))
        if missing:
            wrong.insert(0, f"it has no {', '.join(missing)}")
        if not wrong:
            known = {flow["name"] for flow in self.scenario["flows"]}
            strange = {end["flow"] for end in self.metadata["flows"]} - known
            wrong += [f"flows has {name}, the scenario has not" for name in sorted(strange)[:3]]
        if wrong:
            raise RunError(f"{self.folder}/run.json: damaged: {'; '.join(wrong)}")

    @property
    def is_cut(self) -> bool:
        """Whether it was stopped before the scenario's time was over.

        It ends by itself before that where nothing is left to happen.
        """
        ended_early = bool(self.metadata["measured_ns"] < self.scenario["duration_ns"])
        reasons = self.metadata["invalid_reasons"]
        return ended_early and any(reason.startswith("stopped by ") for reason in reasons)

    def table(self, name: str) -> pa.Table:
        """Return one of the run's tables; RunError where the run has no such table."""
        import pyarrow.parquet as pq

        if name not in TABLES:
            raise RunError(f'no table "{name}"; a run has {", ".join(TABLES)}')
        path = self.folder / f"{name}.parquet"
        added = ADDED.get(name, ())
        if not path.exists():
            if len(added) == len(TABLES[name]):
                return arrow_schema(name).empty_table()
            raise RunError(f"{path}: missing; the run is damaged")
        import pyarrow as pa

        try:
            # Arrow's threads gain nothing on tables of this size, and a process that ends just as
            # they start is ended by C++ ("terminate called without an active exception").
            with path.open("rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
                _check_size(path, file.metadata)
                table = file.read(use_threads=False)
            table.validate(full=True)
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(f"{path}: cannot be read, the run is damaged: {first}") from error
        missing = [column for column in TABLES[name] if column not in table.column_names]
        if missing and set(missing) <= set(added):
            for column in missing:
                values = pa.nulls(table.num_rows, arrow_schema(name).field(column).type)
                table = table.append_column(column, values)
            missing = []
        if missing:
            raise RunError(f"{path}: has no column {', '.join(missing)}; the run is damaged")
        wrong = _wrong_columns(name, table)
        if wrong:
            raise RunError(f"{path}: {'; '.join(wrong)}; the run is damaged")
        return table

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a table as a list of rows."""
        rows: list[dict[str, Any]] = self.table(name).to_pylist()
        texts = [column for column, kind in TABLES[name].items() if kind == "string"]
        for row in rows:
            for column in texts:
                text = row[column]
                if text is not None and not text.isprintable():
                    row[column] = printable(text)
        return rows


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _check_size(path: Path, metadata: Any) -> None:
    """Raise RunError for a table that would not fit into memory."""
    size_bytes = sum(
        metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)
    )
    if metadata.num_rows > MOST_ROWS or size_bytes > _MOST_BYTES:
        raise RunError(
            f"{path}: has {metadata.num_rows} rows of {size_bytes} bytes; a run of up to "
            f"{MOST_ROWS} rows and {_MOST_BYTES} bytes can be shown"
        )


def _wrong_columns(name: str, table: pa.Table) -> list[str]:
    """Return what keeps a table from being one of a run."""
    import pyarrow.compute as pc

    wrong = []
    for field in arrow_schema(name):
        column = table.column(field.name)
        if column.type != field.type:
            wrong.append(f"column {field.name} holds {column.type}, not {field.type}")
        elif field.name in _FILLED[name] and column.null_count:
            wrong.append(f"column {field.name} has {column.null_count} empty fields")
        elif field.type == "double" and not pc.all(pc.is_finite(column)).as_py() and len(column):
            wrong.append(f"column {field.name} holds what is no number")
        elif field.name in _TIMES and len(column) > column.null_count:
            least, most = pc.min_max(column).as_py().values()
            # Events are told of from before the clock of the run starts.
            if least < (-_MOST_NS if name == "events" else 0) or most > _MOST_NS:
                wrong.append(f"column {field.name} holds times from {least} to {most} ns")
    if name == "links" and not wrong:
        directions = set(pc.unique(table.column("direction")).to_pylist())
        if not directions <= {"forward", "backward"}:
            wrong.append("column direction holds more than forward and backward")
    return wrong

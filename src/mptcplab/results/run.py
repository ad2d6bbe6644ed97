"""Reading a run's folder."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mptcplab.results.tables import ADDED, SCHEMA_VERSION, TABLES, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa


_KEYS: Final = (
    *("scenario", "testbed", "valid", "invalid_reasons", "measured_ns", "wall_s", "drivers"),
    "flows",
)
_SCENARIO_KEYS: Final = (
    *("name", "title", "duration_ns", "interval_ns", "seed", "time_scale", "topology", "flows"),
    *("timeline", "expectations", "report"),
)


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
            self.metadata: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError) as error:  # neither JSON nor text at all
            raise RunError(f"{self.folder}/run.json: not JSON: {error}") from error
        if not isinstance(self.metadata, dict):
            raise RunError(f"{self.folder}/run.json: not a run's metadata; expected a JSON object")
        version = self.metadata.get("schema")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
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
        """Raise RunError where ``run.json`` lacks what every testbed writes into it."""
        missing = [key for key in _KEYS if key not in self.metadata]
        scenario = self.metadata.get("scenario")
        if isinstance(scenario, dict):
            missing += [f"scenario.{key}" for key in _SCENARIO_KEYS if key not in scenario]
        if missing or not isinstance(scenario, dict):
            what = f"it has no {', '.join(missing)}" if missing else "its scenario is no object"
            raise RunError(f"{self.folder}/run.json: damaged: {what}")

    @property
    def is_cut(self) -> bool:
        """Whether it was stopped before the scenario's time was over."""
        return bool(self.metadata["measured_ns"] < self.scenario["duration_ns"])

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
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
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
        return table

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a table as a list of rows."""
        rows: list[dict[str, Any]] = self.table(name).to_pylist()
        return rows

"""Reading a run's folder."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mptcplab.results.tables import SCHEMA_VERSION, TABLES

if TYPE_CHECKING:
    import pyarrow as pa


class RunError(ValueError):
    """A folder that is not a run that this version can read; the text says what to do."""

    exit_status = 2  # bad input


class Run:
    """A finished run: its metadata, and its tables on demand."""

    def __init__(self, folder: Path | str) -> None:
        """Open a run; RunError where the folder is none, or is of a later version."""
        self.folder = Path(folder)
        try:
            text = (self.folder / "run.json").read_text()
        except OSError as error:
            raise RunError(
                f"{self.folder}: not a run folder (no run.json); expected one that a run left"
            ) from error
        try:
            self.metadata: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as error:
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
        if not path.exists():
            raise RunError(f"{path}: missing; the run is damaged")
        return pq.read_table(path)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a table as a list of rows."""
        rows: list[dict[str, Any]] = self.table(name).to_pylist()
        return rows

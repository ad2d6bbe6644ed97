"""The laboratory from Python: run, sweep, compare and inspect, as the commands of these names do.

    import mptcplab

    run = mptcplab.run("A", duration="5s", set={"flows.*.buffer": "1MB"})
    run.summary()["flows"][0]["goodput_bps"]
    run.table("links")                      # Arrow: pandas, polars and DuckDB take it as it is

Errors are the commands': ``mptcplab.scenario.ScenarioError`` for what is wrong with a scenario,
``MachineCannotError`` for what a machine lacks. A run that is not what was asked for is no error:
it says so in ``valid`` and ``invalid_reasons``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mptcplab.results import run as results
from mptcplab.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

    from mptcplab.results.observer import Observer
    from mptcplab.scenario.model import Scenario
    from mptcplab.sweeps.design import Design, Point
    from mptcplab.sweeps.sweep import Sweep as SweepOfRuns
    from mptcplab.trace.trace import Trace

Settings = Mapping[str, Any]
"""Keys as ``--set`` takes them, with their values: ``{"flows.*.buffer": "1MB"}``."""
File = str | PathLike[str]


class Run(results.Run):
    """A finished run: metadata, tables as Arrow, the text of the commands, figures as objects."""

    @property
    def valid(self) -> bool:
        """Whether the run is what the scenario asked for."""
        return bool(self.metadata["valid"])

    @property
    def invalid_reasons(self) -> list[str]:
        """Why it is not; empty for a valid run."""
        return list(self.metadata["invalid_reasons"])

    def summary(self) -> dict[str, Any]:
        """Return what ``mptcplab run --json`` prints."""
        from mptcplab.report.limits import summary_with_limits

        return summary_with_limits(self)

    def figure(self) -> Figure:
        """Return links and goodput over time, a figure of matplotlib's."""
        from mptcplab.report.figure import throughput_figure

        return throughput_figure(self)

    def page(self) -> str:
        """Return the HTML of the page that ``mptcplab page`` writes of it."""
        from mptcplab.report.page.document import page
        from mptcplab.report.page.run import run_part

        part = run_part(self)
        return page([part], part.title)

    def __str__(self) -> str:
        """Return the text that ``mptcplab show`` prints."""
        from mptcplab.cli.render import describe

        return describe(self)

    def __repr__(self) -> str:
        """Say which run it is and whether it is valid."""
        valid = "valid" if self.valid else "NOT VALID"
        return (
            f"<Run {self.scenario['name']} on {self.metadata['testbed']}, {valid}: {self.folder}>"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>{_svg(self.figure())}"


class Sweep:
    """A finished sweep: its folder, and both its tables as Arrow."""

    def __init__(self, sweep: SweepOfRuns) -> None:
        """Take a sweep whose runs are made."""
        self._sweep = sweep
        self.folder = sweep.store.folder

    @property
    def runs(self) -> pa.Table:
        """A row for each run and metric; parameters are columns of their own types."""
        return self._sweep.runs_table()

    @property
    def summary(self) -> pa.Table:
        """A row for each point and metric: means, margins, percentiles, tests against the first."""
        return self._sweep.summary_table()

    @property
    def distributions(self) -> pa.Table:
        """A row for each point, flow and percent of the times of its requests or messages.

        Empty where no flow has any.
        """
        from mptcplab.sweeps.distributions import distributions_table

        sweep = self._sweep
        return distributions_table(sweep.points, sweep.columns, sweep.distributions())

    @property
    def valid(self) -> bool:
        """Whether every run is valid."""
        return all(row.valid for row in self._sweep.rows)

    @property
    def metrics(self) -> list[str]:
        """The names of what was measured."""
        return [metric.rpartition(" [")[0] for metric in self._sweep.judged_metrics()]

    def figure(self, metric: str | None = None) -> Figure:
        """Return the figure of a metric, of the first where none is named; KeyError for another."""
        from mptcplab.sweeps.figure import metric_figure

        sweep = self._sweep
        cells = {of[0].metric.rpartition(" [")[0]: of for of in sweep.cells()}
        chosen = next(iter(cells)) if metric is None else metric
        title = f"{sweep.scenarios[0].name} on {sweep.asked.testbed}"
        return metric_figure(title, sweep.points, sweep.columns, cells[chosen])

    def page(self) -> str:
        """Return the HTML of the page that ``mptcplab page`` writes of it."""
        from mptcplab.cli.sweep_page import sweep_part
        from mptcplab.report.page.document import page

        part = sweep_part(self.folder)
        return page([part], part.title)

    def __str__(self) -> str:
        """Return the text that ``mptcplab sweep`` prints."""
        from mptcplab.cli.sweep import sweep_text

        return sweep_text(self._sweep)

    def __repr__(self) -> str:
        """Say how many points and runs there are, and where."""
        points, runs = len(self._sweep.points), len(self._sweep.rows)
        return f"<Sweep of {points} points, {runs} runs: {self.folder}>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>{_svg(self.figure())}"


class Capture:
    """A reconstructed capture: connections, what held them back, tables as Arrow."""

    def __init__(self, trace: Trace) -> None:
        """Take what was read."""
        self.trace = trace

    @property
    def connections(self) -> list[Any]:
        """The MPTCP connections; see ``mptcplab.trace.connections.model.Connection``."""
        return self.trace.connections

    @property
    def limits(self) -> list[dict[str, Any]]:
        """What held each direction of each connection back, as ``inspect --json`` has it."""
        from mptcplab.report.limits import as_json

        return as_json(self.trace.limits)

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables that ``inspect --tables`` writes, by name."""
        from mptcplab.trace.output.tables import tables

        return tables(self.trace)

    def to_json(self) -> dict[str, Any]:
        """Return what ``inspect --json`` prints."""
        from mptcplab.trace.output.to_json import to_json

        return to_json(self.trace, None, list)

    def __str__(self) -> str:
        """Return the text that ``mptcplab inspect`` prints."""
        from mptcplab.trace.output.explain import explanation

        return "\n".join(explanation(self.trace))

    def __repr__(self) -> str:
        """Say what was read."""
        names = ", ".join(path.name for path in self.trace.paths)
        return f"<Capture {names}: {len(self.connections)} MPTCP connections>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def load(
    scenario: File,
    *,
    duration: str | None = None,
    set: Settings | None = None,  # noqa: A002 (the command's own word)
    seed: int | None = None,
    plugins: bool = False,
) -> Scenario:
    """Return a scenario, read from a file or built in ("A"), with keys changed.

    ``duration`` scales timeline and flows with it, as ``--duration`` does; ``plugins`` lets it use
    classes of your own. ScenarioError for what is wrong, with the key and what is expected.
    """
    from mptcplab.scenario import load as load_file
    from mptcplab.units import parse_duration

    return load_file(
        scenario if isinstance(scenario, str) else Path(scenario),
        duration_ns=None if duration is None else parse_duration(duration),
        overrides=_overrides(set),
        seed=seed,
        plugins=plugins,
    )


def run(
    scenario: File | Scenario,
    *,
    on: str = DEFAULT,
    duration: str | None = None,
    set: Settings | None = None,  # noqa: A002
    seed: int | None = None,
    out: File | None = None,
    plugins: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Run a scenario and return the run; without ``out`` its folder is a temporary one.

    ``observer`` hears of the progress; see ``mptcplab.results.observer``.
    """
    from mptcplab.results.observer import Silent
    from mptcplab.testbeds import run_on

    _check_testbed(on)
    asked = _scenario(scenario, duration=duration, set=set, seed=seed, plugins=plugins)
    folder = _temporary(asked.name) if out is None else Path(out)
    return Run(run_on(on, asked, folder, observer or Silent()))


def sweep(  # noqa: PLR0913 (options of a command, all by name)
    scenario: File,
    over: Mapping[str, Sequence[Any]] | None = None,
    *,
    zip: Mapping[str, Sequence[Any]] | None = None,  # noqa: A002
    repetitions: int = 1,
    precision: float | None = None,
    metrics: Sequence[str] = (),
    on: str = DEFAULT,
    jobs: int | None = None,
    cluster: str | None = None,
    duration: str | None = None,
    set: Settings | None = None,  # noqa: A002
    seed: int | None = None,
    out: File | None = None,
    keep_runs: bool = False,
    series: bool = False,
    plugins: bool = False,
) -> Sweep:
    """Run a scenario over all combinations of the values in ``over``, with several seeds each.

    ``zip`` lists go side by side. On all cores (``jobs``), on the workers of a Dask scheduler
    (``cluster``), or one at a time where ``on`` is "linux". A script that uses several cores wants
    the ``if __name__ == "__main__":`` guard that ``multiprocessing`` asks for. The same call with
    the same ``out`` goes on where an earlier one stopped.
    """
    from mptcplab.sweeps.design import Design

    design = Design(_values(over), _values(zip))
    return _swept(
        scenario,
        design,
        {"duration": duration, "set": set, "seed": seed, "plugins": plugins},
        {
            "testbed": on,
            "repetitions": repetitions,
            "precision": precision,
            "metrics": tuple(metrics),
            "keep": keep_runs,
            "series": series,
        },
        jobs,
        cluster,
        out,
    )


def compare(  # noqa: PLR0913
    scenario: File,
    variants: Mapping[str, Settings],
    *,
    repetitions: int = 5,
    on: str = DEFAULT,
    jobs: int | None = None,
    cluster: str | None = None,
    duration: str | None = None,
    set: Settings | None = None,  # noqa: A002
    seed: int | None = None,
    out: File | None = None,
    plugins: bool = False,
) -> Sweep:
    """Run a scenario as it is and with each variant's settings; the summary tests each against the
    scenario as it is, run for run of the same seed. ``jobs`` and ``cluster`` are those of a sweep.
    """
    from mptcplab.sweeps.design import Design, Labelled

    labelled = [Labelled("as it is", (), 0.0)]
    for place, (label, settings) in enumerate(variants.items(), 1):
        labelled.append(Labelled(label, _overrides(settings), float(place)))
    return _swept(
        scenario,
        Design(labelled=tuple(labelled)),
        {"duration": duration, "set": set, "seed": seed, "plugins": plugins},
        {"testbed": on, "repetitions": repetitions},
        jobs,
        cluster,
        out,
    )


def overlay(*runs: results.Run | File) -> Figure:
    """Return a figure of several runs over one another: goodput of each flow, a line a run.

    Runs are given as such, or by their folders; RunError for a folder that holds none.
    """
    from mptcplab.cli.show import labels
    from mptcplab.report.figure import overlay_figure

    if len(runs) < 2:
        raise TypeError("an overlay is of two runs or more")
    opened = [each if isinstance(each, results.Run) else Run(Path(each)) for each in runs]
    names = labels([each.folder for each in opened])
    return overlay_figure(dict(zip(names, opened, strict=True)))


def inspect(*captures: File) -> Capture:
    """Read a capture, or several as one, and reconstruct its MPTCP connections.

    CaptureError for a file that cannot be read as a capture.
    """
    from mptcplab.trace.trace import open_trace

    return Capture(open_trace(captures))


def _swept(
    scenario: File,
    design: Design,
    loading: dict[str, Any],
    asking: dict[str, Any],
    jobs: int | None,
    cluster: str | None,
    out: File | None,
) -> Sweep:
    from mptcplab.cli.repeated_runs import check_jobs, workers_for
    from mptcplab.sweeps.engine import ClusterWorkers, Workers
    from mptcplab.sweeps.sweep import Asked
    from mptcplab.sweeps.sweep import Sweep as SweepOfRuns

    asked = Asked(**asking)
    _check_testbed(asked.testbed)
    common = dict(loading.pop("set") or {})

    def at(point: Point) -> Scenario:
        return load(scenario, set={**common, **_settings(point)}, **loading)

    folder = _temporary("sweep") if out is None else Path(out)
    made = SweepOfRuns(design, at, asked, folder)
    check_jobs(asked.testbed, jobs)

    def workers(runs: int) -> Workers:
        if cluster is not None:
            return ClusterWorkers(cluster)
        return workers_for(asked.testbed, jobs, runs)

    with made.store.opened(made.settings()):
        try:
            for _ in made.make(workers):
                pass
        finally:
            made.write_tables()
    return Sweep(made)


def _settings(point: Point) -> dict[str, str]:
    return {key: value for key, _, value in (each.partition("=") for each in point.overrides)}


def _scenario(scenario: File | Scenario, **loading: Any) -> Scenario:
    if isinstance(scenario, str | PathLike):
        return load(scenario, **loading)
    if any(value for value in loading.values()):
        raise TypeError("a scenario that is loaded is run as it is: change it when loading it")
    return scenario


def _overrides(settings: Settings | None) -> tuple[str, ...]:
    return tuple(f"{key}={_text(value)}" for key, value in (settings or {}).items())


def _values(lists: Mapping[str, Sequence[Any]] | None) -> Any:
    from mptcplab.sweeps.design import values_of

    return tuple(
        values_of(f"over {key}", key, [_text(value) for value in values])
        for key, values in (lists or {}).items()
    )


def _text(value: Any) -> str:
    """Return a value as ``--set`` takes it; texts stay as they are."""
    return value if isinstance(value, str) else json.dumps(value)


def _temporary(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"mptcplab-{name}-")) / "run"


def _check_testbed(name: str) -> None:
    from mptcplab.scenario import ScenarioError

    if name not in TESTBEDS:
        raise ScenarioError("on", "", f'there is no testbed "{name}"', ", ".join(sorted(TESTBEDS)))


def _svg(figure: Figure) -> str:
    """Return a figure as SVG within HTML, its texts as text."""
    from io import StringIO

    import matplotlib as mpl

    stream = StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()

"""Who makes the runs: this process, processes of this machine, or a cluster's workers.

All of them are executors as Python's ``concurrent.futures`` has them, which Dask's client is too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any, Final, Protocol, TypeVar

from mptcplab.garbage import keep_loaded, release_loaded

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

ATTEMPTS: Final = 2
"""How often a task is begun alone whose process died: what killed it may have meant another."""
_AHEAD: Final = 3
"""Tasks handed out for each worker: enough to keep it busy, few enough to be called off soon."""
_CONNECT_S: Final = 10


class Workers(Protocol):
    """Where tasks can be handed to."""

    @property
    def ahead(self) -> int:
        """How many tasks to hand out before the first result."""

    def executor(self) -> AbstractContextManager[Executor]:
        """Return what makes them; leaving it by an exception ends what is still being made."""


class ThisProcess:
    """This process makes one task after the other, and signals reach what it runs."""

    ahead = 1

    @contextmanager
    def executor(self) -> Iterator[Executor]:
        """Return an executor whose tasks are done when it has taken them."""
        try:
            yield _AtOnce()
        finally:
            release_loaded()


class _AtOnce(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class LocalProcesses:
    """So many processes of this machine.

    A script that uses them wants the ``__main__`` guard that ``multiprocessing`` asks for.
    """

    def __init__(self, count: int) -> None:
        """Take the number of processes."""
        self._count = count

    @property
    def ahead(self) -> int:
        """A few tasks for each."""
        return _AHEAD * self._count

    @contextmanager
    def executor(self) -> Iterator[Executor]:
        """Start the processes; on an exception they end at once, whatever they are at."""
        before = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._count, context, initializer=_begin_worker)
        try:
            yield pool
        except BaseException:
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    """Leave the terminal's signals to the process that reads the results, and end with it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


class ClusterWorkers:
    """The workers of a running Dask scheduler, or of one that is started here for ``local:N``."""

    def __init__(self, address: str) -> None:
        """Take the scheduler's address, as in ``tcp://192.0.2.1:8786``."""
        self._address = address
        self._threads = 1

    @property
    def ahead(self) -> int:
        """A few tasks for each thread of the workers, once they are known."""
        return _AHEAD * self._threads

    @contextmanager
    def executor(self) -> Iterator[Executor]:
        """Connect; what is still to be made is called off when the block is left."""
        where, _, number = self._address.partition(":")
        if where == "local" and not (number.isdecimal() and int(number)):
            raise ClusterError(f"--cluster {self._address}: expected local:N, as in local:4")
        if not self._address:
            raise ClusterError("--cluster: names no scheduler; expected tcp://HOST:PORT or local:N")
        distributed = _distributed()
        if where != "local":
            try:
                client = distributed.Client(self._address, timeout=_CONNECT_S)
            except (OSError, ValueError) as error:
                said = str(error).splitlines()[0]
                raise ClusterError(f"--cluster {self._address}: no scheduler: {said}") from error
            with client:
                yield from self._of(client)
            return
        with (
            distributed.LocalCluster(
                n_workers=int(number), threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield from self._of(client)

    def _of(self, client: Any) -> Iterator[Executor]:
        self._threads = max(1, sum(client.nthreads().values()))
        yield client.get_executor(pure=False)


class ClusterError(RuntimeError):
    """There is no cluster to work on; the text says why."""

    exit_status = 3  # this machine cannot


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise ClusterError(
            "--cluster needs Dask: pip install 'mptcplab[cluster]', or leave it out"
        ) from error


def make_all(
    function: Callable[[_Task], _Result],
    tasks: Sequence[_Task],
    workers: Workers,
    died: Callable[[_Task], _Result],
) -> Generator[tuple[_Task, _Result]]:
    """Yield each task with its result as it is done; raise what ``function`` raises.

    When a process dies, all that its pool was at is lost. Those tasks are made again, each alone,
    so that the one that kills its process is known; ``died`` gives its result. An exception in the
    caller, or closing the iterator, ends what is being made.
    """
    left = list(reversed(tasks))
    suspects: list[tuple[_Task, int]] = []
    while left or suspects:
        with workers.executor() as executor:
            running: dict[Future[_Result], tuple[_Task, int]] = {}
            whole = True
            while running or (whole and (left or suspects)):
                while whole and len(running) < (1 if suspects else workers.ahead):
                    if suspects:
                        task, deaths = suspects.pop()
                    elif left:
                        task, deaths = left.pop(), 0
                    else:
                        break
                    try:
                        running[executor.submit(_make, function, task)] = task, deaths
                    except BrokenExecutor as error:  # a process died while it had nothing to do
                        lost: Future[_Result] = Future()
                        lost.set_exception(error)
                        running[lost] = task, deaths
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                alone = len(running) == 1
                for future in done:
                    task, deaths = running.pop(future)
                    if not _is_death(future.exception()):
                        yield task, future.result()
                    elif deaths + alone >= ATTEMPTS:
                        whole = False
                        yield task, died(task)
                    else:
                        whole = False
                        suspects.append((task, deaths + alone))


def _make(function: Callable[[_Task], _Result], task: _Task) -> _Result:
    """Make a task; what the first one of a process has loaded, the others have too."""
    result = function(task)
    keep_loaded()
    return result


def _is_death(error: BaseException | None) -> bool:
    """Say whether a task's process died: here, or (Dask's KilledWorker) several times elsewhere."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


def local_workers(jobs: int | None, tasks: int) -> Workers:
    """Return so many processes, a core each by default, no more than there are tasks."""
    count = min(jobs or len(os.sched_getaffinity(0)), max(1, tasks))
    return ThisProcess() if count == 1 else LocalProcesses(count)

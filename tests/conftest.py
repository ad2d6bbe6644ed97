"""What every test may rely on: the kernel marker, the third-party captures, Hypothesis's profiles.

Hypothesis has two profiles here. ``repeatable``, the default, tries the same cases every time and
keeps nothing between runs: what passed yesterday and fails today fails because of a change.
``search`` draws new cases every time, ten times as many (``MPTCPLAB_SEARCH_FACTOR``), and keeps
what failed in ``.hypothesis/``:

    pytest --hypothesis-profile=search tests/property        (or MPTCPLAB_HYPOTHESIS=search)

A case that a search finds is written down as an ``@example`` of its test, with what it was about,
and stays there once it is mended.

``make unit`` spreads the tests over all cores. Those that measure on the kernel in real time stay
together in one process, one after the other; the other processes yield the CPU to it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

# Who starts tests in the background may have these ignored (nohup), which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Some set this for all programs, and tables would be as wide as that.
os.environ.pop("COLUMNS", None)

# A machine that others use as well is slow at times, which says nothing about a property.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search",
    deadline=None,
    database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("MPTCPLAB_HYPOTHESIS", "repeatable"))

HOSTS = Path(__file__).parent / "linux" / "hosts"
"""Tests that look at hosts, and measure nothing."""
IPPROTO_MPTCP = 262
IS_ONE_OF_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ
NICENESS = os.getpriority(os.PRIO_PROCESS, 0)
YIELDING = 10
"""By how much a test that measures nothing in real time is nicer."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes the tables of ``tests/snapshots`` anew."""
    parser.addoption("--renew", action="store_true", help="write tests/snapshots anew")


def _why_no_kernel() -> str | None:
    """Return why this machine cannot run kernel tests, or None where it can."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError as error:
        return f"this kernel makes no MPTCP socket: {error.strerror}"
    if os.geteuid() != 0:
        return "not root"
    return None


def _skip_or_fail(reason: str) -> None:
    """Skip on a user's machine; in CI, where everything is installed, a skip is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run this test: {reason}")
    pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in this hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that measure on the kernel in one process, and those that only look at hosts
    in another.
    """
    for item in items:
        if item.get_closest_marker("kernel") is not None:
            group = "hosts" if HOSTS in item.path.parents else "kernel"
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold a test back when what its markers name is missing; let it yield the CPU or not."""
    on_kernel = item.get_closest_marker("kernel") is not None
    if IS_ONE_OF_SEVERAL and os.geteuid() == 0:  # nobody else may take niceness back
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS + (0 if on_kernel else YIELDING))
    if on_kernel:
        reason = _why_no_kernel()
        if reason is not None:
            _skip_or_fail(reason)
    for marker in item.iter_markers("program"):
        for program in marker.args:
            if not any(map(shutil.which, program.split("|"))):
                _skip_or_fail(f"{program.replace('|', ' or ')} is not installed")


@pytest.fixture(scope="session")
def captures() -> Path:
    """Return the folder of third-party captures named by MPTCPLAB_CAPTURES, or skip."""
    folder = os.environ.get("MPTCPLAB_CAPTURES")
    if not folder:
        pytest.skip("MPTCPLAB_CAPTURES names no folder of captures")
    return Path(folder)

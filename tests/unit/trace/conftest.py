"""Helpers of the trace tests: packets by hand, traces from bytes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mptcplab import trace

Reader = Callable[..., trace.Trace]


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """The module of hand-written packets."""
    return _load("trace_test_packets", Path(__file__).parent / "packets.py")


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Reconstruct captures given as bytes, one file each."""

    def reader(*files: bytes) -> trace.Trace:
        paths = []
        for k, data in enumerate(files):
            path = tmp_path / f"{k}.pcap"
            path.write_bytes(data)
            paths.append(path)
        return trace.open(paths)

    return reader

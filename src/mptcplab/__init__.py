"""A laboratory for Multipath TCP.

One scenario file describes hosts, links, flows and a timeline.  A testbed runs it, on the Linux
kernel's MPTCP or on the package's own stack, and leaves a run: one folder of tables and metadata.

From Python: :func:`run`, :func:`sweep`, :func:`compare`, :func:`inspect`, :func:`load` and
:func:`overlay`, which are imported when they are first asked for.
"""

__version__ = "0.1.0"

__all__ = [
    "Capture",
    "Run",
    "Sweep",
    "__version__",
    "compare",
    "inspect",
    "load",
    "overlay",
    "run",
    "sweep",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module  # the parts below this face do not depend on it

        return getattr(import_module("mptcplab.laboratory"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *globals()]

"""Marks the abstract classes that users extend, for builds compiled with mypyc.

A class that mypyc compiled can have interpreted subclasses only if it says so. This module gives
the decorator that says it, and gives it as a no-op where ``mypy_extensions`` is not installed.
It must itself stay interpreted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:
    try:
        from mypy_extensions import mypyc_attr
    except ImportError:

        def mypyc_attr(**_attributes):
            """Return classes as they are: nothing is compiled here."""
            return lambda cls: cls


__all__ = ["mypyc_attr"]

"""Marks classes for builds compiled with mypyc: those that users extend, those made in masses.

A class that mypyc compiled can have interpreted subclasses only if it says so. One whose objects
come and go with every train keeps the last one that went for the next (``free_list_len``). This
module gives the decorator that says so, and gives it as a no-op where ``mypy_extensions`` is not
installed. It must itself stay interpreted.

Not for use: ``acyclic``, which spares objects the garbage collector. Freed in a chain of more than
fifty (what is under way on a link), such objects overwrite memory before them (mypyc 2.4: their
deallocation still uses CPython's trashcan, which takes them for objects of the collector).
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

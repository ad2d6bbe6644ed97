"""What modules that mypyc compiles need beside the language, with and without ``mypy_extensions``.

``i32`` and ``i64``, for modules that convert to machine integers; for annotations alone a module
imports them under ``TYPE_CHECKING``. ``mypyc_attr`` marks classes: those that users extend, those
made in masses.

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
    from mypy_extensions import i32, i64, mypyc_attr
else:
    try:
        from mypy_extensions import i32, i64, mypyc_attr
    except ImportError:
        i32 = i64 = int

        def mypyc_attr(**_attributes):
            """Return classes as they are: nothing is compiled here."""
            return lambda cls: cls


__all__ = ["i32", "i64", "mypyc_attr"]

"""What the Linux testbed raises where this machine cannot do what is asked."""

from __future__ import annotations


class MachineCannotError(RuntimeError):
    """This machine lacks what a lab needs; the text says what, and how to get it."""

    exit_status = 3

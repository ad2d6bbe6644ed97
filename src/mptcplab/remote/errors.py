"""What can go wrong with real hosts, in words that say on which one."""

from __future__ import annotations


class HostsError(RuntimeError):
    """A real host cannot be used, or has failed; the text says which, why and what to do."""

    exit_status = 3  # this machine, or another, cannot


class HostsInputError(ValueError):
    """A scenario asks of real hosts what they cannot do, or does not say where they are."""

    exit_status = 2  # bad input

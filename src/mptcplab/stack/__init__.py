"""The sans-IO MPTCP stack: no socket, clock, thread or random source of its own.

:class:`Stack` is the engine of one host; :class:`StackConfig` says how it behaves;
:class:`Connection` is what an application reads and writes; ``events`` is what it is told, and
``connection_columns`` and ``subflow_columns`` say how it goes.
"""

from __future__ import annotations

from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.readings import connection_columns, subflow_columns
from mptcplab.stack.stack import Listener, Stack

__all__ = [
    "Connection",
    "Listener",
    "MptcpSubflow",
    "Stack",
    "StackConfig",
    "connection_columns",
    "events",
    "subflow_columns",
]

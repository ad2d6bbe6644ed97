"""Captures explained: connections, subflows, mappings, and what held them up.

``trace.open("capture.pcap")`` returns a ``Trace``::

    from mptcplab import trace

    capture = trace.open("server.pcap")
    for connection in capture.connections:
        for subflow in connection.subflows:
            print(subflow.ends, subflow.bytes, subflow.reinjected_bytes)
"""

from mptcplab.trace.connections.model import Connection, Event, Half, Subflow
from mptcplab.trace.files.batch import CaptureError, Damage
from mptcplab.trace.trace import Trace
from mptcplab.trace.trace import open_trace as open  # noqa: A004  (the name a notebook expects)

__all__ = [
    "CaptureError",
    "Connection",
    "Damage",
    "Event",
    "Half",
    "Subflow",
    "Trace",
    "open",
]

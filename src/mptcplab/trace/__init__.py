"""Captures explained: connections, subflows, mappings, and what held them up.

``trace.open("capture.pcap")`` returns a ``Trace``::

    from mptcplab import trace

    capture = trace.open("server.pcap")
    for connection in capture.connections:
        for subflow in connection.subflows:
            print(subflow.ends, subflow.bytes, subflow.reinjected_bytes)

What ``__all__`` names is for programs and notebooks; the modules below it may change.  They work in
this order, and each imports only from those before it:

``columns``
    numpy columns with one element per packet: fields, addresses, sequence numbers
``files``
    pcap and pcapng files to batches of packets
``decode``
    the bytes of a batch to TCP and MPTCP fields
``follow``
    one pass over all batches, which keeps what each direction of each subflow did
``connections``
    what the pass kept, put together as connections and subflows
``findings``
    what happened on a connection and what held it up
``trace``
    all of this for one capture: ``open`` and ``Trace``
``packets``, ``packet_filter``, ``packet_text``, ``option_fields``, ``tcp_streams``
    a second pass that lists packets, those that pass a filter
``live``, ``two_captures``, ``testbed_run``
    captures that still grow; captures of both ends; captures of a run of mptcplab
``output``
    text, JSON, tables and figures
"""

from mptcplab.trace.connections.model import Connection, Event, Half, Subflow
from mptcplab.trace.files.batch import CaptureError, Damage
from mptcplab.trace.trace import Trace
from mptcplab.trace.trace import open_trace as open  # noqa: A004  (the name a notebook expects)

__all__ = [
    "CaptureError",  # raised for a file that cannot be read as a capture
    "Connection",  # an MPTCP connection, with its subflows and events
    "Damage",  # a packet that was left out, and why
    "Event",  # something that happened on a connection
    "Half",  # what one side sends on a subflow
    "Subflow",  # a TCP connection that carries part of an MPTCP connection
    "Trace",  # everything in one capture, or in several merged by time
    "open",  # reads captures and returns a Trace
]

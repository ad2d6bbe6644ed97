"""Middleboxes that change, hold or drop TCP: what MPTCP must survive (RFC 8684 sections 3.7, 6).

A box takes segments, and the time, and returns segments; it owns neither socket nor clock. What it
is asked to do is a :class:`mptcplab.network.middlebox.MiddleboxPlan`. Segments may be trains
(see :mod:`mptcplab.wire.segment`): a box does to a train what it would do to each of its packets.
A segment without any flag stands for a UDP datagram.
"""

from mptcplab.middleboxes.box import Middlebox, Tally, describe_box
from mptcplab.middleboxes.chain import Chain
from mptcplab.middleboxes.make import make_box, make_chain

__all__ = ["Chain", "Middlebox", "Tally", "describe_box", "make_box", "make_chain"]

"""Which client a workload has."""

from __future__ import annotations

from mptcplab.applications.client import Client
from mptcplab.applications.messages import MessageClient
from mptcplab.applications.request_response import ArrivalClient, RequestClient
from mptcplab.applications.video import VideoClient
from mptcplab.applications.web import WebClient
from mptcplab.applications.workloads import Messages, RequestResponse, Video, Web

ExchangeWorkload = RequestResponse | Web | Video | Messages
"""Workloads whose ends speak to each other over connections, by requests or messages."""


def client_of(workload: ExchangeWorkload, slots: int, seed: int, flow: str) -> Client:
    """Return the client of a flow with ``slots`` connections; all its draws follow from ``seed``
    and the flow's name.
    """
    if isinstance(workload, Web):
        return WebClient(workload, slots, seed, flow)
    if isinstance(workload, Video):
        return VideoClient(workload, slots, seed, flow)
    if isinstance(workload, Messages):
        return MessageClient(workload, slots, seed, flow)
    if workload.is_open:
        return ArrivalClient(workload, slots, seed, flow)
    return RequestClient(workload, slots, seed, flow)

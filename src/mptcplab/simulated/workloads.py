"""The applications of a simulated run that ask, answer or send messages, and what they noted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from mptcplab.applications.clients import client_of
from mptcplab.applications.exchange import Exchange
from mptcplab.applications.rows import message_row, request_row
from mptcplab.applications.workloads import Command, GridFtp, Messages, RequestResponse, Web
from mptcplab.results.writer import RunWriter
from mptcplab.scenario.model import Flow, Scenario
from mptcplab.simulated.build import Network
from mptcplab.simulated.datagrams import DatagramFlow
from mptcplab.simulated.exchanges import Connect, Conversation
from mptcplab.simulated.host import Host
from mptcplab.simulated.transfer import Transfer


class FlowTraffic(ABC):
    """What one flow does."""

    transfers: Sequence[Transfer]

    @abstractmethod
    def start(self, connect: Connect) -> None:
        """Let it begin; ``connect`` opens connections."""

    @abstractmethod
    def exchanges(self) -> Iterable[Exchange]:
        """Return what it has noted."""


class ConversationTraffic(FlowTraffic):
    """A client and a server with connections between them."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self.transfers = conversation.slots

    def start(self, connect: Connect) -> None:
        """Let the client begin."""
        self._conversation.start(connect)

    def exchanges(self) -> Iterable[Exchange]:
        """Return requests or messages, those that are not answered too."""
        return (*self._conversation.done, *self._conversation.under_way())


class DatagramTraffic(FlowTraffic):
    """Datagrams, one way."""

    def __init__(self, flow: DatagramFlow) -> None:
        self._flow = flow
        self.transfers = [flow.transfer]

    def start(self, _connect: Connect) -> None:
        """Let the sender begin; there is nothing to connect."""
        self._flow.start()

    def exchanges(self) -> Iterable[Exchange]:
        """Return the datagrams."""
        return self._flow.sent


class Workloads:
    """All of a run's."""

    def __init__(self, scenario: Scenario, network: Network) -> None:
        self._scenario = scenario
        self._network = network
        self.traffic: dict[str, FlowTraffic] = {}
        self._datagrams: dict[str, DatagramFlow] = {}

    def prepare(self, flow: Flow, sender: Host, receiver: Host) -> FlowTraffic:
        """Return what a flow with a workload does, ready to start."""
        workload = flow.workload
        assert workload is not None
        assert not isinstance(workload, Command | GridFtp)
        if isinstance(workload, Messages) and workload.datagrams:
            path = self._scenario.paths(flow)[0]
            datagrams = DatagramFlow(flow, workload, self._scenario.seed, path, (sender, receiver))
            self._datagrams[flow.name] = datagrams
            traffic: FlowTraffic = DatagramTraffic(datagrams)
        else:
            client = client_of(workload, flow.connections, self._scenario.seed, flow.name)
            lasts = not isinstance(workload, RequestResponse | Web) or workload.persistent
            traffic = ConversationTraffic(Conversation(flow, client, sender, receiver, lasts))
        self.traffic[flow.name] = traffic
        return traffic

    def listen(self, flow: str, port: int) -> None:
        """Let the receiver of datagrams take what comes for a port."""
        self._datagrams[flow].listen(port)

    def write(self, writer: RunWriter) -> None:
        """Write the rows of requests and messages."""
        for flow in self._scenario.flows:
            if flow.name not in self.traffic:
                continue
            exchanges = sorted(
                self.traffic[flow.name].exchanges(), key=lambda exchange: exchange.number
            )
            if isinstance(flow.workload, Messages):
                writer.append("messages", (message_row(flow.name, each) for each in exchanges))
            else:
                writer.append("requests", (request_row(flow.name, each) for each in exchanges))

"""How far a segment travels through the stack: calls, files and call-backs for one of each kind.

Two stacks exchange data over one path until they have settled; then one data segment in, one ACK
in and one train out are followed. Counted are calls of functions of the package, the files these
stand in, and call-backs: calls into a file that is already waiting further up for the call to
return. Run it with the interpreted build; a compiled one hides its calls.

    python bench/call_chains.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from types import FrameType

import mptcplab
from mptcplab.stack import Stack, StackConfig
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.path_managers.initial_only import InitialOnly
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt
from mptcplab.wire.segment import Segment

PACKAGE = str(Path(mptcplab.__file__).parent)
CLIENT, SERVER = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
STEP_NS = 1_000_000
TRAINS = 40


def settings() -> StackConfig:
    return StackConfig(congestion=NewReno, scheduler=LowestRtt, path_manager=InitialOnly)


class Chain:
    """Counts what is called while it is entered."""

    def __init__(self) -> None:
        self.calls = 0
        self.call_backs = 0
        self.files: set[str] = set()

    def follow(self, call: Callable[[], object]) -> object:
        sys.setprofile(self._note)
        try:
            return call()
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(PACKAGE):
            return
        self.calls += 1
        self.files.add(file)
        above = frame.f_back
        if above is None or above.f_code.co_filename == file:
            return
        while above is not None:
            if above.f_code.co_filename == file:
                self.call_backs += 1
                return
            above = above.f_back


def exchange(client: Stack, server: Stack, now_ns: int) -> None:
    """Let both send what they have, and take it in."""
    for sender, receiver in ((client, server), (server, client)):
        while (segment := sender.poll_transmit(now_ns)) is not None:
            receiver.receive(segment, now_ns)
        while sender.poll_event() is not None:
            pass


def main() -> None:
    if not sys.modules["mptcplab.stack.stack"].__file__.endswith(".py"):  # type: ignore[union-attr]
        sys.exit("call_chains: this is the compiled build; its calls cannot be seen")
    client, server = Stack(settings(), Random(1)), Stack(settings(), Random(2))
    client.add_address(CLIENT, 1)
    server.add_address(SERVER, 1)
    server.listen(80)
    now_ns = 1_000_000_000
    connection = client.connect(CLIENT, SERVER, 80, now_ns)
    chains = {}
    for _ in range(TRAINS):
        now_ns += STEP_NS
        exchange(client, server, now_ns)
        exchange(client, server, now_ns)
        if connection.established:
            connection.write_length(2_000)
            for peer in server.connections:
                peer.read_length()
        chains = {name: Chain() for name in ("train out", "data segment in", "ACK in")}
        train = chains["train out"].follow(partial(client.poll_transmit, now_ns))
        if isinstance(train, Segment):
            chains["data segment in"].follow(partial(server.receive, train, now_ns))
            ack = server.poll_transmit(now_ns)
            if ack is not None:
                chains["ACK in"].follow(partial(client.receive, ack, now_ns))
    print(f"{'':18}{'calls':>7}{'files':>7}{'call-backs':>12}")
    for name, chain in chains.items():
        print(f"{name:18}{chain.calls:7}{len(chain.files):7}{chain.call_backs:12}")


if __name__ == "__main__":
    main()

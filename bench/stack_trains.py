"""Data trains a second, end to end, between two stacks in memory.

Each train is built, received, acknowledged, and its ACK received: two stacks, one path without
loss and without delay, payload as lengths. The baseline, measured in the same run, is what the
same machine does with a bare ``Segment`` object per train and per ACK; the ratio says how much
work a train is, whatever the machine. Seconds are the process's own (CPU time).

    python bench/stack_trains.py [--trains N] [--subflows N]
"""

from __future__ import annotations

import argparse
import time
from random import Random

import mptcplab.stack.tcp.sender as probe_module
from mptcplab.stack import StackConfig, events
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers.initial_only import InitialOnly
from mptcplab.stack.path_managers.ndiffports import NdiffPorts
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt
from mptcplab.stack.stack import Stack
from mptcplab.wire.mptcp import Dss
from mptcplab.wire.segment import ACK, Segment

CLIENT = bytes((10, 0, 0, 1))
SERVER = bytes((10, 0, 0, 2))
STEP_NS = 50_000


def settings(mptcp: bool, subflows: int) -> StackConfig:
    return StackConfig(
        congestion=NewReno,
        scheduler=LowestRtt,
        path_manager=InitialOnly if subflows == 1 else lambda: NdiffPorts(subflows),
        mptcp=mptcp,
        send_buffer_bytes=4_000_000,
        send_buffer_max_bytes=0,
        receive_buffer_bytes=4_000_000,
        receive_buffer_max_bytes=0,
    )


def transfer(trains: int, mptcp: bool, subflows: int) -> tuple[int, float]:
    """Move about ``trains`` full trains; return how many were sent, and the seconds it took."""
    configuration = settings(mptcp, subflows)
    client = Stack(configuration, Random(1))
    server = Stack(settings(mptcp, 1), Random(2))
    client.add_address(CLIENT, 1)
    server.add_address(SERVER, 1)
    server.listen(80)
    now_ns = 1_000_000_000
    connection = client.connect(CLIENT, SERVER, 80, now_ns)
    peer: Connection | None = None
    total = trains * 65_000
    left = total
    started = time.process_time()
    received = 0
    while received < total:
        if left and connection.established:
            left -= connection.write_length(min(left, 4_000_000))
        segment = client.poll_transmit(now_ns)
        while segment is not None:
            server.receive(segment, now_ns)
            while (told := server.poll_event()) is not None:
                if isinstance(told[1], events.ConnectionAccepted):
                    peer = told[0]
            if peer is not None:
                received += peer.read_length()
            reply = server.poll_transmit(now_ns)
            while reply is not None:
                client.receive(reply, now_ns)
                reply = server.poll_transmit(now_ns)
            now_ns += STEP_NS
            segment = client.poll_transmit(now_ns)
        while client.poll_event() is not None:
            pass
        for stack in (client, server):
            deadline = stack.poll_timeout()
            if deadline is not None and deadline <= now_ns:
                stack.handle_timeout(now_ns)
        now_ns += STEP_NS
    seconds = time.process_time() - started
    sent = sum(subflow.tcp.sender.counters.sent_trains for subflow in connection.subflows)
    return sent, seconds


def bare_objects(trains: int) -> float:
    """Return the seconds to make the objects of as many trains and ACKs, and nothing else."""
    started = time.process_time()
    for number in range(trains):
        Segment(
            CLIENT,
            1,
            SERVER,
            2,
            seq=number,
            flags=ACK,
            payload_bytes=65_000,
            segment_size_bytes=1420,
            mptcp=(Dss(number, True, number, True, number, 65_000),),
        )
        Segment(SERVER, 2, CLIENT, 1, ack=number, flags=ACK, mptcp=(Dss(number),))
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trains", type=int, default=20_000)
    arguments = parser.parse_args()
    compiled = not probe_module.__file__.endswith(".py")
    print(f"stack modules are {'compiled' if compiled else 'interpreted'}")
    base = bare_objects(arguments.trains) / arguments.trains
    print(f"{'bare objects':24}{1 / base:12,.0f} trains/s  ratio 1.0")
    for name, mptcp, subflows in (
        ("plain TCP", False, 1),
        ("MPTCP, 1 subflow", True, 1),
        ("MPTCP, 4 subflows", True, 4),
    ):
        sent, seconds = transfer(arguments.trains, mptcp, subflows)
        print(f"{name:24}{sent / seconds:12,.0f} trains/s  ratio {seconds / sent / base:.1f}")


if __name__ == "__main__":
    main()

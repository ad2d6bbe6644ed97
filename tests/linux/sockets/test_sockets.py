"""The sockets for people: blocking and asyncio, what they raise, and how they end."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import TYPE_CHECKING

import pytest

from mptcplab.linux.sockets import AsyncHost, Host, new_stack, open_tun
from mptcplab.stack.path_managers import InitialOnly

if TYPE_CHECKING:
    from tests.linux.sockets.conftest import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.program("ip", "tc", "nsenter")]


def test_a_refused_connection_says_so(lab: Lab) -> None:
    pair = lab.interop()
    with pytest.raises(ConnectionRefusedError):
        pair.host.connect("10.1.0.1", 4444)


def test_a_connection_into_the_void_times_out(lab: Lab) -> None:
    pair = lab.interop()
    pair.gates[0].closed = True
    with pytest.raises(TimeoutError):
        pair.host.connect("10.1.0.1", 5001, timeout=0.2)


def test_no_address_of_the_family(lab: Lab) -> None:
    with Host(new_stack()) as host, pytest.raises(OSError, match="no address of ours"):
        host.connect("10.1.0.1", 5001)


def test_accept_and_receive_time_out(lab: Lab) -> None:
    pair = lab.interop()
    listener = pair.host.listen(5001)
    with pytest.raises(TimeoutError):
        listener.accept(timeout=0.05)
    listener.close()
    ours, _ = pair.connect()
    ours.timeout = 0.05
    with pytest.raises(TimeoutError):
        ours.recv()


def test_half_close_and_the_end_of_the_stream(lab: Lab) -> None:
    pair = lab.interop()
    ours, theirs = pair.connect()
    assert ours.peer == ("10.1.0.1", 5001)
    ours.send(b"question")
    ours.finish()
    assert theirs.recv(100) == b"question"
    assert theirs.recv(100) == b""
    ours.wait_delivered()
    theirs.sendall(b"answer")
    theirs.close()
    assert ours.recv() == b"answer"
    assert ours.recv() == b""
    with pytest.raises(ValueError, match="closed for writing"):
        ours.send(b"more")


def test_a_listener_that_closed_refuses(lab: Lab) -> None:
    pair = lab.interop()
    pair.host.listen(5001).close()
    theirs = pair.kernel.socket()
    lab.closing(theirs)
    with pytest.raises(ConnectionRefusedError):
        theirs.connect(("10.1.0.2", 5001))


def test_a_tun_device_that_cannot_be(lab: Lab) -> None:
    namespace = lab.namespace()
    with namespace.net.entered():
        with pytest.raises(ValueError, match="expected 1 to 15 bytes"):
            open_tun("a-name-that-is-too-long")
        device = open_tun("tun0", "10.1.0.1/24")
        lab.closing(device)
        with pytest.raises(OSError, match="tun0"):
            open_tun("tun0")


def test_asyncio_as_client(lab: Lab) -> None:
    namespace = lab.namespace()
    device = namespace.tun("tun0", "10.1.0.1/24")
    lab.closing(device)
    listener = namespace.listener("0.0.0.0")
    lab.closing(listener)
    data = lab.pattern(3_000_000)

    def echo() -> str:
        peer, _ = listener.accept()
        digest = hashlib.sha256()
        with peer:
            while chunk := peer.recv(1 << 18):
                digest.update(chunk)
                peer.sendall(chunk)
        return digest.hexdigest()

    echoing = lab.worker(echo)

    async def work() -> None:
        async with AsyncHost(new_stack(path_manager=InitialOnly, seed=1)) as host:
            host.add_link(device, "10.1.0.2")
            connection = await host.connect("10.1.0.1", 5001)
            assert connection.state.mptcp

            async def send() -> None:
                await connection.send(data)
                connection.finish()

            sending = asyncio.create_task(send())
            digest = hashlib.sha256()
            while chunk := await connection.recv():
                digest.update(chunk)
            await sending
            assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
            await connection.wait_for(lambda state: state.closed_for is not None)

    asyncio.run(asyncio.wait_for(work(), 30))
    assert echoing.result() == hashlib.sha256(data).hexdigest()
    assert not namespace.unprovoked()


def test_asyncio_as_server_with_two_clients(lab: Lab) -> None:
    namespace = lab.namespace()
    device = namespace.tun("tun0", "10.1.0.1/24")
    lab.closing(device)

    def ask(name: bytes) -> bytes:
        with namespace.socket() as client:
            client.connect(("10.1.0.2", 5001))
            client.sendall(name)
            answer = client.recv(100)
            return answer + client.recv(100)

    async def work() -> None:
        async with AsyncHost(new_stack(path_manager=InitialOnly, seed=1)) as host:
            host.add_link(device, "10.1.0.2")
            listener = host.listen(5001)
            clients = [lab.worker(partial(ask, name)) for name in (b"one", b"two")]
            for _ in clients:
                connection = await listener.accept()
                name = await connection.recv()
                await connection.send(b"hello " + name)
                connection.close()
                await connection.wait_for(lambda state: state.closed_for is not None)
            listener.close()
            answers = {client.result() for client in clients}
            assert answers == {b"hello one", b"hello two"}

    asyncio.run(asyncio.wait_for(work(), 30))
    assert not namespace.unprovoked()


def test_asyncio_refusal_and_abort(lab: Lab) -> None:
    namespace = lab.namespace()
    device = namespace.tun("tun0", "10.1.0.1/24")
    lab.closing(device)
    listener = namespace.listener("0.0.0.0")
    lab.closing(listener)

    async def work() -> None:
        async with AsyncHost(new_stack(path_manager=InitialOnly, seed=1)) as host:
            host.add_link(device, "10.1.0.2")
            with pytest.raises(ConnectionRefusedError):
                await host.connect("10.1.0.1", 4444)
            connection = await host.connect("10.1.0.1", 5001)
            await connection.send(b"x")
            peer, _ = listener.accept()
            lab.closing(peer)
            assert peer.recv(1) == b"x"
            connection.abort()
            with pytest.raises(ConnectionResetError):
                peer.recv(1)

    asyncio.run(asyncio.wait_for(work(), 30))

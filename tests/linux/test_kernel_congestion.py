"""LIA, OLIA, BALIA and a user's own congestion control on the kernel, by BPF."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.linux.alone import alone_with
from tests.linux.two_links import TWO_LINKS, faults, finished, scenario

from mptcplab.linux.kernel.bpf import Registration
from mptcplab.linux.lab.congestion import COUPLED_OBJECT, available
from mptcplab.linux.lab.lab import open_scenario
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.linux.measure.unsupported import UnsupportedError, check_supported
from mptcplab.linux.probes.diag import DiagSocket
from mptcplab.linux.traffic.sockets import IPPROTO_MPTCP
from mptcplab.scenario import ScenarioError, load
from mptcplab.scenario.model import Scenario

pytestmark = [pytest.mark.kernel, pytest.mark.program("clang")]

LIA = TWO_LINKS + 'congestion = "lia"\n'
PATIENCE_S = 20.0

OWN = """
typedef unsigned int u32;
typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sock;
struct tcp_sock { u32 snd_cwnd; };
#pragma clang attribute pop
struct tcp_congestion_ops {
    u32 (*ssthresh)(struct sock *sk);
    void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
    u32 (*undo_cwnd)(struct sock *sk);
    char name[16];
};
SEC("struct_ops/two") u32 two(u64 *arguments) { return 2; }
SEC("struct_ops/undo") u32 undo(u64 *arguments) { return 7; }
SEC("struct_ops/stay") void stay(u64 *arguments)
{
    struct tcp_sock *tp = (struct tcp_sock *)arguments[0];
    tp->snd_cwnd = 7;
}
SEC(".struct_ops.link") struct tcp_congestion_ops seven = {
    .ssthresh = (void *)two, .cong_avoid = (void *)stay, .undo_cwnd = (void *)undo,
    .name = "seven",
};
SEC("license") const char license_text[] = "GPL";
"""


@pytest.fixture(autouse=True)
def congestion_controls_of_one_test() -> Iterator[None]:
    """What is registered is so in the whole kernel: let no other test here run meanwhile."""
    with alone_with("congestion-controls"):
        yield


def registered() -> set[str]:
    """Return the congestion controls that a lab has registered."""
    return {name for name in available() if name.startswith(("lia_", "olia_", "balia_", "seven_"))}


def left(names: set[str]) -> set[str]:
    """Return which of some names are registered still, after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while registered() & names and time.monotonic() < deadline:
        time.sleep(0.02)
    return registered() & names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lia", "olia", "balia"])
@pytest.mark.parametrize("delay", ["0ms", "5ms"])  # the kernel's links, and the emulator's
def test_a_run_has_it_on_each_subflow_and_leaves_none(
    tmp_path: Path, name: str, delay: str
) -> None:
    """That subflows have no other is among what makes a run valid."""
    before = registered()
    text = LIA.replace("lia", name)
    for link in ("one", "two"):
        text = text.replace(f"[links.{link}]", f'[links.{link}]\ndelay = "{delay}"')
    done = finished(tmp_path, text, "duration=2s")
    assert faults(done) == []
    assert set(done.metadata["drivers"].values()) == {"kernel" if delay == "0ms" else "tap"}
    assert {row["link"] for row in done.rows("subflows")} == {"one", "two"}
    assert not registered() - before


def subflows_in_a_lab(asked: Scenario) -> list[tuple[str, str, str]]:
    """Return (host, remote address, congestion control) of a connection's subflows in a lab."""
    with open_scenario(asked) as lab:
        name = lab.congestion[asked.flows[0].congestion].encode()
        [first, *_] = asked.paths(asked.flows[0])
        address = (str(first.remote_address.ip), 5001)
        sockets = []
        for host in ("bob", "alice"):
            with lab.enter(host):
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
            sockets.append(sock)
        listening, connecting = sockets
        listening.bind(("", 5001))
        listening.listen()
        connecting.connect(address)
        accepted, _ = listening.accept()
        accepted.send(b"established")
        connecting.recv(20)
        deadline = time.monotonic() + PATIENCE_S
        found: list[tuple[str, str, str]] = []
        while len(found) < 4 and time.monotonic() < deadline:
            found = []
            for host in ("alice", "bob"):
                with lab.enter(host):
                    diag = DiagSocket()
                found += [
                    (host, each.remote_address, each.congestion)
                    for each in diag.tcp()
                    if each.state == "ESTABLISHED" and each.token is not None
                ]
                diag.close()
            time.sleep(0.05)
        for sock in (accepted, *sockets):
            sock.close()
        return [*found, ("lab", "", name.decode())]


def test_later_joins_and_accepted_subflows_have_it(tmp_path: Path) -> None:
    asked = scenario(tmp_path, LIA)
    *found, (_, _, name) = run_supervised(lambda _: subflows_in_a_lab(asked))
    assert len(found) == 4
    assert {each for _, _, each in found} == {name}
    assert name.startswith("lia_")
    assert name not in available()


def test_two_labs_have_names_of_their_own() -> None:
    with Registration(COUPLED_OBJECT) as one, Registration(COUPLED_OBJECT) as other:
        assert set(one.names) == set(other.names) == {"lia", "olia", "balia"}
        assert not set(one.names.values()) & set(other.names.values())
        assert {*one.names.values(), *other.names.values()} <= registered()
    assert not registered() & {*one.names.values(), *other.names.values()}


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the command", "the supervisor"])
def test_a_killed_run_leaves_none(tmp_path: Path, victim: str) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(LIA)
    before = registered()
    command = [sys.executable, "-m", "mptcplab", "run", str(file), "--on", "linux"]
    process = subprocess.Popen(
        [*command, "--duration", "30s", "--out", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(new := registered() - before) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert {name.split("_")[0] for name in new} == {"lia", "olia", "balia"}
        time.sleep(1.0)  # until there are sockets that use it
        killed = process.pid if victim == "the command" else holder_of(process.pid)
        os.kill(killed, signal.SIGKILL)
        process.wait(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert left(new) == set()


def holder_of(command: int) -> int:
    """Return the supervisor of a command: its child's child."""
    for _ in range(2):
        children = Path(f"/proc/{command}/task/{command}/children").read_text().split()
        command = int(children[0])
    return command


@pytest.fixture(name="own")
def own_object(tmp_path: Path) -> Path:
    """Return the file of a user's own congestion control, whose window is seven packets."""
    source, file = tmp_path / "own.bpf.c", tmp_path / "own.bpf.o"
    source.write_text(OWN)
    options = ["-target", "bpf", "-O2", "-g", "-w"]
    subprocess.run(["clang", *options, "-c", str(source), "-o", str(file)], check=True)
    return file


@pytest.mark.slow
def test_a_users_own_is_loaded_where_the_user_allows_it(tmp_path: Path, own: Path) -> None:
    (tmp_path / "scenario.toml").write_text(TWO_LINKS + f'congestion = "{own.name}"\n')
    with pytest.raises(ScenarioError, match="which no scenario loads unless you say so"):
        load(str(tmp_path / "scenario.toml"))
    asked = load(str(tmp_path / "scenario.toml"), plugins=True)
    *found, (_, _, name) = run_supervised(lambda _: subflows_in_a_lab(asked))
    assert {each for _, _, each in found} == {name}
    assert name.startswith("seven_")
    assert name not in available()


def test_what_the_verifier_refuses_is_told_before_anything_is_made(
    tmp_path: Path, own: Path
) -> None:
    source = tmp_path / "own.bpf.c"
    source.write_text(OWN.replace("tp->snd_cwnd = 7;", "*(u64 *)arguments[0] = 7;"))
    options = ["-target", "bpf", "-O2", "-g", "-w"]
    subprocess.run(["clang", *options, "-c", str(source), "-o", str(own)], check=True)
    (tmp_path / "scenario.toml").write_text(TWO_LINKS + f'congestion = "{own.name}"\n')
    asked = load(str(tmp_path / "scenario.toml"), plugins=True)
    with pytest.raises(UnsupportedError, match=r"own\.bpf\.o cannot be loaded"):
        check_supported(asked)

"""The command on a host of a lab: as root and without, its options, programs that are not MPTCP."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.linux.hosts.cases import CASES, Case, serving
from tests.linux.hosts.lab import PORT, HostLab, in_lab, routed

from mptcplab.hosts.examine import examine_host, examine_peer
from mptcplab.hosts.explain import explained
from mptcplab.hosts.facts import Facts
from mptcplab.hosts.judgement import Judgement
from mptcplab.linux.kernel.syscalls import CLONE_NEWNET, setns
from mptcplab.scenario import load

pytestmark = pytest.mark.kernel

BY_NAME = {case.name: case for case in CASES}
NOBODY = 65534


def command(lab: HostLab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``mptcplab host`` on the client, towards the server."""
    peer = f"[{lab.address(8, 2)}]:{PORT}"
    return subprocess.run(
        [sys.executable, "-m", "mptcplab", "host", peer, "--wait", "1.3s", *arguments],
        preexec_fn=partial(setns, lab.spaces["client"].descriptor, CLONE_NEWNET),
        capture_output=True,
        text=True,
    )


def as_nobody(lab: HostLab, case: Case) -> Judgement:
    """Examine the client in a process that has no rights."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            setns(lab.spaces["client"].descriptor, CLONE_NEWNET)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            found = examine_peer([lab.address(case.first, 2)], PORT, case.wait_s)
            with os.fdopen(writer, "wb") as stream:
                pickle.dump((found.judgement, list(explained(found))), stream)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer: tuple[Judgement, list[str]] = pickle.load(stream)
    os.waitpid(child, 0)
    return answer[0]


@pytest.mark.parametrize(
    "name",
    [
        "client-accepts-none",
        "client-limit",
        "server-limit",
        "plain-server",
        "signal-endpoint",
        "address-changed",
        "no-rule",
        "join-dropped",
        "userspace",
    ],
)
def test_without_rights_the_same_is_said_where_the_kernel_tells(name: str) -> None:
    case = BY_NAME[name]

    def work(lab: HostLab) -> Judgement:
        case.bend(lab)
        with serving(lab, case.server, case.first):
            return as_nobody(lab, case)

    judgement = in_lab(case.make, 4, work)
    rows = [obstacle.code for row in judgement.rows for obstacle in row.obstacles]
    assert {*rows, *(each.code for each in judgement.general)} == {case.code}
    assert not judgement.enough
    assert any("filter rules" in text for text in judgement.unread)


def test_without_rights_what_packets_alone_tell_is_unknown() -> None:
    case = BY_NAME["server-denies"]

    def work(lab: HostLab) -> Judgement:
        case.bend(lab)
        with serving(lab, case.server, case.first):
            return as_nobody(lab, case)

    row = in_lab(case.make, 4, work).rows[-1]
    assert str(row.outcome) == "unknown"
    assert not row.obstacles
    assert "run it as root" in row.note


def test_options_and_exit_statuses(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"

    def work(lab: HostLab) -> Any:
        with serving(lab, "mptcp", 8):
            good = command(lab, "--json", "--scenario", str(path))
            BY_NAME["no-rule"].bend(lab)
            bad = command(lab)
            fix = command(lab, "--fix")
        return good, bad, fix

    good, bad, fix = in_lab(routed, 4, work)
    assert good.returncode == 0, good.stderr
    said = json.loads(good.stdout)
    assert said["healthy"] is True
    assert [row["outcome"] for row in said["rows"]] == ["opens first", "joined"]
    assert said["probe"]["counters"]["MPTcpExtMPJoinSynTx"] == 1
    scenario = load(path)
    assert len(scenario.paths(scenario.flows[0])) == 2
    assert bad.returncode == fix.returncode == 1
    assert "tried and failed: route" in bad.stdout
    commands = [line for line in fix.stdout.splitlines() if not line.startswith("#")]
    assert commands == ["ip -4 rule add from 10.0.2.1 table 2 priority 1000"]


def test_nothing_on_the_host_is_changed() -> None:
    def work(lab: HostLab) -> Any:
        BY_NAME["no-table"].bend(lab)

        def set_up() -> str:
            shown = ["address", "rule", "route show table all", "mptcp endpoint", "mptcp limits"]
            return "".join(lab.run("client", "ip", *each.split()) for each in shown)

        with serving(lab, "mptcp", 8):
            before = set_up()
            done = [command(lab), command(lab, "--fix")]
            return before, set_up(), [each.returncode for each in done]

    before, after, statuses = in_lab(routed, 4, work)
    assert statuses == [1, 1]
    assert after == before


TALK = """
import socket, sys, time
connection = socket.create_connection(sys.argv[1:3])
connection.sendall(b"x")
time.sleep(60)
"""


@pytest.mark.program("mptcpize")
def test_a_program_that_is_not_mptcp_is_named_until_it_is() -> None:
    def work(lab: HostLab) -> Any:
        def said(*start: str) -> tuple[Facts, Judgement]:
            with serving(lab, "mptcp", 8):
                argv = [*start, sys.executable, "-c", TALK, str(lab.address(8, 2)), str(PORT)]
                program = lab.start("client", argv)
                try:
                    with lab.spaces["client"].entered():
                        lab.wait_for_socket("client")
                        found = examine_host(peers=[lab.address(8, 2)])
                finally:
                    program.kill()
                    program.wait()
            return found.facts, found.judgement

        return said(), said("mptcpize", "run")

    (_, plain), (_, wrapped) = in_lab(routed, 4, work)
    (remark,) = [each.text for each in plain.remarks if each.code == "program-tcp"]
    assert f"to port {PORT}" in remark
    assert "mptcpize run" in remark
    assert "IPPROTO_MPTCP" in remark
    assert [r.code for r in wrapped.remarks] == ["connections"]
    assert f"to port {PORT} of 10.0.8.2: 2" in wrapped.remarks[0].text

"""Applications on the kernel: a small run of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.linux.two_links import TWO_LINKS, faults, finished, scenario

from mptcplab.linux.testbed import run
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise
from mptcplab.scenario import load
from mptcplab.simulated.testbed import UnsupportedError
from mptcplab.simulated.testbed import run as simulate

MS = 1_000_000
NETWORK = TWO_LINKS.replace('queue = "100KB"', 'queue = "100KB"\nrtt = "20ms"')


def test_requests_take_a_round_trip_and_come_back_whole(tmp_path: Path) -> None:
    text = NETWORK + 'application = "request-response"\nresponse = "10KB"\nthink = "50ms"\n'
    done = finished(tmp_path, text)
    assert faults(done) == []
    (flow,) = summarise(done)["flows"]
    assert flow["intact"] is True
    assert flow["protocol"] == "mptcp"
    assert flow["requests"]["count"] > 20
    assert 0.020 < flow["requests"]["p50_s"] < 0.040


@pytest.mark.parametrize("keys", ["persistent = false", 'arrivals = "poisson 50ms"'])
def test_each_request_may_have_its_own_connection(tmp_path: Path, keys: str) -> None:
    text = NETWORK + f'application = "request-response"\nresponse = "10KB"\n{keys}\n'
    done = finished(tmp_path, text)
    assert faults(done) == []
    (flow,) = summarise(done)["flows"]
    assert flow["intact"] is True
    assert flow["requests"]["p50_s"] > 0.040  # with a handshake each
    assert done.rows("subflows") == []


def test_fast_open_saves_tcp_a_round_trip_as_in_simulation(tmp_path: Path) -> None:
    keys = 'application = "request-response"\npersistent = false\nthink = "20ms"\ncount = 15\n'
    text = NETWORK + f'protocol = "tcp"\n{keys}fast_open = true\n'
    for name, more in (("plain", 'protocol = "tcp"\n'), ("mptcp", "fast_open = true\n")):
        text += f'\n[flows.{name}]\nfrom = "alice"\nto = "bob"\n{keys}{more}'
    done = finished(tmp_path, text, "duration=2s")
    assert faults(done) == []
    flows = summarise(done)["flows"]
    assert [flow["intact"] for flow in flows] == [True] * 3
    fast, plain, mptcp = (flow["requests"]["p50_s"] for flow in flows)
    assert plain - fast == pytest.approx(0.020, abs=0.004)
    assert mptcp > 0.040  # Linux 6.18 answers on MPTCP sockets when the handshake is done
    asked = scenario(tmp_path, text, "duration=2s")
    simulated = summarise(Run(simulate(asked, tmp_path / "simulated", Silent())))
    assert fast == pytest.approx(simulated["flows"][0]["requests"]["p50_s"], rel=0.1)


def test_pages_video_and_messages_come_back_whole(tmp_path: Path) -> None:
    text = NETWORK + 'application = "web"\nconnections = 3\nobjects = 6\ncount = 2\n'
    for name, keys in (
        ("film", 'application = "video"\nchunk = "500ms"\n'),
        ("call", 'application = "paced"\nrate = "200kb/s"\nmessage = "500"\n'),
    ):
        text += f'\n[flows.{name}]\nfrom = "alice"\nto = "bob"\n{keys}'
    done = finished(tmp_path, text)
    assert faults(done) == []
    page, film, call = summarise(done)["flows"]
    assert [flow["intact"] for flow in (page, film, call)] == [True] * 3
    assert page["pages"]["count"] == 2
    assert film["video"]["chunks"] > 5
    assert call["messages"]["lost"] == 0
    assert call["messages"]["p50_s"] > 0.010


def test_datagrams_take_the_delay(tmp_path: Path) -> None:
    done = finished(tmp_path, NETWORK + 'application = "udp"\nrate = "500kb/s"\n')
    assert faults(done) == []
    (flow,) = summarise(done)["flows"]
    assert flow["protocol"] == "udp"
    assert flow["messages"]["lost"] == 0
    assert 0.010 < flow["messages"]["p50_s"] < 0.020


COMMAND = 'application = "command"\ncommand = "{}"\n'


def commanded(folder: Path, command: str) -> Path:
    file = folder / "scenario.toml"
    file.write_text(NETWORK + COMMAND.format(command))
    return file


def test_a_command_runs_on_its_host_and_its_output_is_kept(tmp_path: Path) -> None:
    file = commanded(tmp_path, "python3 -c 'import socket; print(socket.gethostname(), {server})'")
    text = file.read_text().replace("{server})", "repr(chr(65)))")
    file.write_text(text)
    done = Run(run(load(file, plugins=True), tmp_path / "run"))
    assert faults(done) == []
    assert (done.folder / "main.txt").read_text().split()[0] == "alice"


def test_a_command_that_fails_makes_the_run_invalid(tmp_path: Path) -> None:
    done = Run(run(load(commanded(tmp_path, "false"), plugins=True), tmp_path / "run"))
    assert any("false ended with status 1" in reason for reason in faults(done))


def test_simulation_has_no_programs(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="runs programs"):
        simulate(load(commanded(tmp_path, "true"), plugins=True), tmp_path / "run", Silent())

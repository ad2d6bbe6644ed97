from __future__ import annotations

import shutil
from ipaddress import ip_interface
from pathlib import Path

import pytest

from mptcplab.applications.workloads import GridFtp
from mptcplab.linux.traffic import file_check, gridftp
from mptcplab.linux.traffic.plan import FlowError
from mptcplab.network.topology import InterfaceEnd
from mptcplab.network.topology import Path as NetworkPath
from mptcplab.scenario.model import Flow


def path(here: str, there: str) -> NetworkPath:
    ends = InterfaceEnd("a", "eth0"), InterfaceEnd("b", "eth0")
    return NetworkPath(
        ends[0], ip_interface(f"{here}/24"), ends[1], ip_interface(f"{there}/24"), ("lan",)
    )


PATHS = [path("10.0.1.1", "10.0.1.2"), path("10.0.2.1", "10.0.2.2")]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/usr/bin/{name}")

    def planned(workload: GridFtp, **more: object) -> gridftp.Plan:
        flow = Flow("main", "a", "b", application="gridftp", workload=workload, **more)  # type: ignore[arg-type]
        return gridftp.Plan(flow, PATHS, 5001)

    return planned


def after(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_an_upload_goes_to_the_receivers_server(plan: object) -> None:
    planned = plan(GridFtp(streams=4), protocol="tcp", send_buffer_bytes=2000)  # type: ignore[operator]
    ((host, role, argv, port),) = planned.servers()
    assert (host, role, port) == ("b", "server", 5002)
    assert after(argv, "-data-interface") == "10.0.1.2"
    assert after(argv, "-port-range") == "5001,5001"
    client = planned.client(Path("/proc/1/fd/7/sent"), Path("/proc/1/fd/7/arrived"))
    assert planned.client_host == "a"
    assert client[-2:] == ["file:///proc/1/fd/7/sent", "ftp://10.0.1.2:5002/proc/1/fd/7/arrived"]
    assert after(client, "-p") == "4"
    assert after(client, "-tcp-bs") == "1000"
    assert "/usr/bin/mptcpize" not in client
    assert planned.ports == 2


def test_a_download_comes_from_the_senders_server_to_a_port_of_the_flow(plan: object) -> None:
    planned = plan(GridFtp(download=True))  # type: ignore[operator]
    ((host, _, argv, _),) = planned.servers()
    assert host == "a"
    assert after(argv, "-data-interface") == "10.0.1.1"
    client = planned.client(Path("/x/sent"), Path("/x/arrived"))
    assert planned.client_host == "b"
    assert client[-2:] == ["ftp://10.0.1.1:5002/x/sent", "file:///x/arrived"]
    assert "GLOBUS_TCP_PORT_RANGE=5001,5001" in client
    assert after(client, "/usr/bin/mptcpize") == "run"


def test_a_striped_transfer_has_a_data_node_for_each_path(plan: object) -> None:
    planned = plan(GridFtp(striped=True), protocol="tcp")  # type: ignore[operator]
    servers = planned.servers()
    assert [host for host, *_ in servers] == ["a"] * 3 + ["b"] * 3
    nodes = [argv for _, role, argv, _ in servers if "-node-" in role]
    assert [after(argv, "-data-interface") for argv in nodes] == [
        *("10.0.1.1", "10.0.2.1"),
        *("10.0.1.2", "10.0.2.2"),
    ]
    assert after(servers[2][2], "-r") == "127.0.0.1:5004,127.0.0.1:5005"
    assert len({port for *_, port in servers}) == 3  # of each host's own loopback
    assert planned.ports == 7
    client = planned.client(Path("/x/sent"), Path("/x/arrived"))
    assert client[-2:] == ["ftp://10.0.1.1:5003/x/sent", "ftp://10.0.1.2:5003/x/arrived"]


def test_stripes_share_no_address() -> None:
    mesh = [path(f"10.0.{a}.1", f"10.1.{b}.1") for a in (1, 2, 3) for b in (1, 2)]
    assert gridftp.stripes_of(mesh) == [mesh[0], mesh[3]]


def test_missing_programs_are_told_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        shutil, "which", lambda name, path: None if "globus" in name else "/usr/bin/x"
    )
    with pytest.raises(FlowError) as caught:
        gridftp.programs(Flow("main", "a", "b", application="gridftp"))
    said = str(caught.value)
    assert "apt-get install" in said
    assert "globus-gass-copy-progs globus-gridftp-server-progs (Debian)" in said
    assert "\n" not in said


@pytest.mark.parametrize("size_bytes", [1, 65_536, 3_000_001])
def test_a_file_is_checked_byte_for_byte(tmp_path: Path, size_bytes: int) -> None:
    file = tmp_path / "file"
    file_check.write_file(file, 5001, size_bytes)
    assert file.stat().st_size == size_bytes
    assert file_check.wrong_byte(file, 5001) is None
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert f"byte {size_bytes - 1} (" in str(file_check.wrong_byte(file, 5001))

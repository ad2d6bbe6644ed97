from __future__ import annotations

from mptcplab.linux.lab.names import hosts_file
from mptcplab.scenario.load import load_topology


def test_every_address_has_its_host_and_management_comes_last() -> None:
    lines = hosts_file(load_topology("report")).decode().splitlines()
    assert lines[:2] == ["127.0.0.1\tlocalhost", "::1\tlocalhost"]
    bliksem = [line.split("\t")[0] for line in lines if line.endswith("\tbliksem")]
    assert bliksem[0] == "192.168.11.1"
    assert bliksem[-1] == "145.100.37.131"
    assert len(bliksem) == 9
    assert "192.168.22.3\trainbow" in lines

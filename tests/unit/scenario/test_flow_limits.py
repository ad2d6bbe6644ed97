from __future__ import annotations

from pathlib import Path

from mptcplab.scenario import load
from mptcplab.scenario.flow_limits import flow_limits

SCENARIO = """
duration = "1s"
[switches.middle]
[hosts.alice]
nics = { eth0 = "80Mb/s" }
[hosts.bob]
[links.first]
between = ["alice:eth0.1", "middle"]
rate = "100Mb/s"
rtt = "10ms"
[links.second]
between = ["bob", "middle"]
rtt = "5ms"
[links.second.backward]
rate = "60Mb/s"
[flows.main]
from = "bob"
to = "alice"
client = "alice"
buffer = "1MB"
"""


def test_a_path_is_told_in_the_direction_of_the_data(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(SCENARIO)
    scenario = load(str(file))
    (limits,) = flow_limits(scenario, {"main": {"window_share": 0.5}})
    (path,) = limits["paths"]
    assert path["links"] == [["first", "backward"], ["second", "forward"]]
    assert path["rate_bps"] == 80_000_000  # of the NIC; backward is the other way
    assert path["rtt_ns"] == 15_000_000
    assert path["nics"] == [
        {"name": "alice:eth0", "rate_bps": 80_000_000, "links": [["first", "backward"]]}
    ]
    (flow,) = scenario.flows
    server = scenario.paths(flow)[0].remote_address
    assert path["source"] == str(server.ip)
    assert limits["receive_buffer_bytes"] == limits["send_buffer_bytes"] == 1_000_000
    assert (limits["window_share"], limits["receive_window_max_bytes"]) == (0.5, None)

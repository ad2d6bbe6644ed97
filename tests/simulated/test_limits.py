"""What simulated runs say of connections that one cause holds back by construction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.limit_cases import NO_DELAY, ONE_PATH, SIMULATED, TWO_PATHS, Case, finished, leading

from mptcplab.cli.main import main
from mptcplab.limits.causes import Cause
from mptcplab.limits.runs import mean_limits, run_limits
from mptcplab.report.limits import headline, limits_text
from mptcplab.results.run import Run


@pytest.mark.slow
@pytest.mark.parametrize("case", SIMULATED, ids=lambda case: case.name)
def test_what_was_built_is_what_is_said(case: Case, tmp_path: Path) -> None:
    run = finished(case, "simulated", tmp_path)
    said = leading(run)
    assert said.cause is case.cause
    assert case.detail in said.detail
    assert said.share > 0.6
    (diagnosis,) = run_limits(run)
    assert sum(limit.share for limit in diagnosis.limits) == pytest.approx(1)
    assert len({limit.cause for limit in diagnosis.limits}) == len(diagnosis.limits)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["receive_buffer", "send_buffer"])
@pytest.mark.parametrize("scenario", [ONE_PATH, TWO_PATHS], ids=["one path", "two paths"])
def test_what_would_do_does(key: str, scenario: str, tmp_path: Path) -> None:
    cause = {"receive_buffer": Cause.RECEIVE_WINDOW, "send_buffer": Cause.SEND_BUFFER}[key]
    small = Case("small", scenario, (f"flows.main.{key}=64KiB",), cause)
    (before,) = run_limits(finished(small, "simulated", tmp_path / "before"))
    assert before.limits[0].cause is cause
    assert before.remedy.overrides
    changed = Case("changed", scenario, (*small.overrides, *before.remedy.overrides), Cause.LINK)
    assert leading(finished(changed, "simulated", tmp_path / "after")).cause is Cause.LINK


@pytest.mark.slow
def test_an_idle_backward_direction_is_named_by_who_opened_the_connection(tmp_path: Path) -> None:
    case = Case("reverse", ONE_PATH, ("flows.main.client=bob",), Cause.LINK)
    assert leading(finished(case, "simulated", tmp_path)).direction == "server-to-client"


@pytest.mark.slow
def test_parallel_connections_are_told_apart(tmp_path: Path) -> None:
    case = Case("two", ONE_PATH, ("flows.main.connections=2",), Cause.LINK)
    run = finished(case, "simulated", tmp_path)
    assert [each.connection for each in run_limits(run)] == ["main/1", "main/2"]
    text = limits_text(mean_limits([run_limits(run)] * 2))
    assert "main/1: " in text
    assert "main/2: " in text


@pytest.mark.slow
def test_a_run_of_an_earlier_version_says_that_it_does_not_know(tmp_path: Path) -> None:
    case = Case("full", ONE_PATH, ("duration=1s",), Cause.LINK)
    folder = tmp_path / "earlier"
    shutil.copytree(finished(case, "simulated", tmp_path / "now").folder, folder)
    (folder / "limits.parquet").unlink()
    said = leading(Run(folder))
    assert said.cause is Cause.UNKNOWN
    assert said.share == 1
    assert "earlier version" in headline([said])


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["none", "2012"])
@pytest.mark.parametrize("key", ["write_rate", "read_rate"])
def test_applications_keep_to_their_rates(key: str, cpu: str, tmp_path: Path) -> None:
    overrides = (f"flows.main.{key}=8Mb/s", "hosts.alice.cpu=" + cpu, "hosts.bob.cpu=" + cpu)
    run = finished(Case("rate", ONE_PATH, overrides, Cause.APPLICATION), "simulated", tmp_path)
    (flow,) = run.metadata["flows"]
    assert flow["intact"]
    assert flow["bytes"] * 8 / 4 == pytest.approx(8e6, rel=0.05)


@pytest.mark.slow
def test_run_compare_and_repetitions_have_limits_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(ONE_PATH + 'receive_buffer = "64KiB"\n')
    keys = {"connection", "direction", "cause", "seconds", "share", "detail", "advice"}
    brief = ["--duration", "1s", "--interval", "100ms", "--json", "--out"]

    def printed(*arguments: str) -> dict[str, Any]:
        assert main([*arguments]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        for limit in result["limits"]:
            assert set(limit) == keys
        return result

    run = printed("run", str(file), *brief, str(tmp_path / "run"), "--what-if")
    assert run["limits"][0]["cause"] == "receive-window"
    assert len(run["what_if"]["set"]) == 1
    assert run["what_if"]["run"]["flows"][0]["bytes"] > 2 * run["flows"][0]["bytes"]
    assert printed("show", "--json", str(tmp_path / "run"))["limits"] == run["limits"]
    several = printed("run", str(file), *brief, str(tmp_path / "several"), "--repetitions", "2")
    assert several["limits"][0]["cause"] == "receive-window"
    variant = ["--variant", "flows.main.receive_buffer=1MB", "--repetitions", "1"]
    compared = printed("compare", str(file), *brief, str(tmp_path / "compared"), *variant)
    assert [each["limits"][0]["cause"] for each in compared["variants"]] == [
        "receive-window",
        "link",
    ]


def shares(run: Run, flow: int = 0) -> dict[Cause, float]:
    """Return the shares of the causes of a flow's connection."""
    return {limit.cause: limit.share for limit in run_limits(run)[flow].limits}


BACK_AT_3 = """
[[timeline]]
at = "1s"
down = ["one", "two"]
[[timeline]]
at = "3s"
up = "two"
"""


@pytest.mark.parametrize("interval", ["500ms", "2s"])
def test_links_that_are_all_down_are_told_for_as_long_as_they_are(
    interval: str, tmp_path: Path
) -> None:
    scenario = TWO_PATHS.replace("40Mb/s", "2Mb/s") + BACK_AT_3
    case = Case("back", scenario, (f"interval={interval}",), Cause.LINK)
    run = finished(case, "simulated", tmp_path)
    said = leading(run)
    assert said.cause is Cause.LINK
    assert "one and two down" in said.detail
    assert shares(run).get(Cause.UNKNOWN, 0) < 0.01
    assert shares(run)[Cause.STALLED] < 0.05  # the new subflow's handshake


@pytest.mark.parametrize("rate", ["16kb/s", "64kb/s", "500kb/s"])
def test_a_link_that_is_full_with_few_packets_is_the_cause(rate: str, tmp_path: Path) -> None:
    case = Case("slow", NO_DELAY, (f"links.one.rate={rate}",), Cause.LINK)
    said = leading(finished(case, "simulated", tmp_path))
    assert (said.cause, said.detail) == (Cause.LINK, "one full")
    assert said.share > 0.8


@pytest.mark.parametrize("buffer", [(), ("flows.main.receive_buffer=300kB",)])
def test_round_robin_over_unlike_links_gets_advice_that_helps(
    buffer: tuple[str, ...], tmp_path: Path
) -> None:
    unlike = ("links.one.rate=50Mb/s", "links.two.rate=1Mb/s", "tunables.scheduler=round-robin")
    case = Case("unlike", TWO_PATHS, (*unlike, *buffer, "duration=3s"), Cause.HEAD_OF_LINE)
    before = finished(case, "simulated", tmp_path / "before")
    (diagnosis,) = run_limits(before)
    assert diagnosis.limits[0].cause is Cause.HEAD_OF_LINE
    assert "with full queues" in diagnosis.limits[0].advice
    changed = Case("changed", TWO_PATHS, (*case.overrides, *diagnosis.remedy.overrides), Cause.LINK)
    after = finished(changed, "simulated", tmp_path / "after")
    assert after.metadata["flows"][0]["bytes"] > 1.5 * before.metadata["flows"][0]["bytes"]
    assert shares(after).get(Cause.HEAD_OF_LINE, 0) < 0.2


def test_a_larger_buffer_is_advised_only_where_it_helps(tmp_path: Path) -> None:
    lossy = ("links.one.rate=10Mb/s", "links.two.rate=5Mb/s", "links.two.rtt=40ms")
    buffer = ("links.two.loss=20%", "flows.main.buffer=100kB", "duration=3s")
    gains = []
    for seed in (1, 2, 6, 16, 21):
        overrides = (*lossy, *buffer, f"seed={seed}")
        case = Case("lossy", TWO_PATHS, overrides, Cause.LINK)
        before = finished(case, "simulated", tmp_path / f"before{seed}")
        (diagnosis,) = run_limits(before)
        remedy = diagnosis.remedy.overrides
        told = [limit for limit in diagnosis.limits if "would do" in limit.advice]
        assert bool(told) == bool(remedy)
        if remedy:
            changed = Case("changed", TWO_PATHS, (*overrides, *remedy), Cause.LINK)
            after = finished(changed, "simulated", tmp_path / f"after{seed}")
            gains.append(after.metadata["flows"][0]["bytes"] / before.metadata["flows"][0]["bytes"])
    assert 0 < len(gains) < 5
    assert mean(gains) > 1.05  # with a fifth of the packets lost, one run may come to less


@pytest.mark.parametrize("buffer", ["200kB", "1MB"])
def test_a_path_that_a_buffer_keeps_idle_beside_a_full_link(buffer: str, tmp_path: Path) -> None:
    unlike = ("links.one.rate=50Mb/s", "links.two.rate=25Mb/s", "links.two.rtt=160ms")
    given = (*unlike, f"flows.main.buffer={buffer}", "duration=8s")
    before = finished(Case("idle", TWO_PATHS, given, Cause.LINK), "simulated", tmp_path / "before")
    (diagnosis,) = run_limits(before)
    assert diagnosis.limits[0].cause is Cause.LINK
    assert "one full but not two" in diagnosis.limits[0].detail
    assert "3 MB would do" in diagnosis.limits[0].advice
    changed = Case("changed", TWO_PATHS, (*given, *diagnosis.remedy.overrides), Cause.LINK)
    after = finished(changed, "simulated", tmp_path / "after")
    assert after.metadata["flows"][0]["bytes"] > 1.2 * before.metadata["flows"][0]["bytes"]
    (better,) = run_limits(after)
    assert better.limits[0].advice == "only a faster link, or one more"


@pytest.mark.parametrize("name", ["two", "slowdown", "but"])
def test_a_path_that_losses_hold_back_beside_a_full_link(name: str, tmp_path: Path) -> None:
    unlike = ("links.one.rate=30Mb/s", f"links.{name}.rate=100Mb/s", f"links.{name}.loss=1%")
    scenario = TWO_PATHS.replace("[links.two]", f"[links.{name}]")
    said = leading(finished(Case("lossy", scenario, unlike, Cause.LINK), "simulated", tmp_path))
    assert (said.cause, said.detail) == (Cause.LINK, f"one full but not {name}")
    assert said.advice == f"a faster link, or one more, or fewer losses on {name}"


def test_a_nic_that_is_full_is_so_for_all_paths_through_it(tmp_path: Path) -> None:
    scenario = (
        TWO_PATHS.replace('hosts = ["alice", "bob"]', '[hosts.bob]\n[hosts.alice]\n'
                          'nics = { eth0 = "6Mb/s" }')
        .replace('["alice", "bob"]', '["alice:eth0.1", "bob"]', 1)
        .replace('["alice", "bob"]', '["alice:eth0.2", "bob"]', 1)
    )  # fmt: skip
    case = Case("shared", scenario, ("flows.main.buffer=1MB",), Cause.LINK)
    said = leading(finished(case, "simulated", tmp_path))
    assert (said.cause, said.detail) == (Cause.LINK, "alice:eth0 full")
    assert said.share > 0.8


def test_a_link_that_is_full_of_acknowledgments_is_the_cause(tmp_path: Path) -> None:
    case = Case("back", ONE_PATH, ("links.one.backward.rate=20kb/s",), Cause.LINK)
    said = leading(finished(case, "simulated", tmp_path))
    assert (said.cause, said.detail) == (Cause.LINK, "one (backward) full")


def test_what_processors_cannot_take_is_not_advised(tmp_path: Path) -> None:
    fast = ("links.*.rate=10Gb/s", "links.*.rtt=20ms", "flows.main.receive_buffer=5MB")
    slow = ("hosts.bob.cpu=2012", "duration=1s", "interval=100ms")
    case = Case("slow host", TWO_PATHS, (*fast, *slow), Cause.RECEIVE_WINDOW)
    said = leading(finished(case, "simulated", tmp_path / "slow"))
    assert said.cause is Cause.RECEIVE_WINDOW
    rate = float(said.advice.partition("(2 x ")[2].partition(" Gb/s")[0])
    assert 1 < rate < 10
    case = Case("fast host", TWO_PATHS, (*fast, "duration=1s"), Cause.RECEIVE_WINDOW)
    assert "2 x 20 Gb/s" in leading(finished(case, "simulated", tmp_path / "fast")).advice


def test_a_nic_that_all_paths_share_counts_once(tmp_path: Path) -> None:
    scenario = (
        TWO_PATHS.replace('hosts = ["alice", "bob"]', '[hosts.bob]\n[hosts.alice]\n'
                          'nics = { eth0 = "50Mb/s" }')
        .replace('["alice", "bob"]', '["alice:eth0.1", "bob"]', 1)
        .replace('["alice", "bob"]', '["alice:eth0.2", "bob"]', 1)
    )  # fmt: skip
    case = Case("shared", scenario, ("flows.main.write_rate=1Mb/s",), Cause.APPLICATION)
    said = leading(finished(case, "simulated", tmp_path))
    assert said.cause is Cause.APPLICATION
    assert said.advice == "write faster: the paths carry 50 Mb/s"


@pytest.mark.parametrize("protocol", ["mptcp", "tcp"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_connection_that_never_came_up_says_why_and_advises_nothing(
    protocol: str, direction: str, tmp_path: Path
) -> None:
    lost = (f"flows.main.protocol={protocol}", f"links.one.{direction}.loss=100%")
    run = finished(Case("lost", ONE_PATH, lost, Cause.HANDSHAKE), "simulated", tmp_path)
    (diagnosis,) = run_limits(run)
    (said,) = diagnosis.limits
    assert (said.cause, said.share, said.advice) == (Cause.HANDSHAKE, 1, "")
    assert said.detail.startswith("it never came up: its handshake found no answer; one lost ")
    assert diagnosis.remedy.overrides == ()


@pytest.mark.parametrize(
    ("application", "cause", "kind"),
    [
        ('application = "request-response"\nthink = "100ms"', Cause.APPLICATION, "no request"),
        (
            'application = "request-response"\nthink = "100ms"\npersistent = false',
            Cause.APPLICATION,
            "no request",
        ),
        ('application = "web"\nthink = "1s"', Cause.APPLICATION, "no request"),
        ('application = "paced"\nrate = "64kb/s"\nmessage = "160"', Cause.APPLICATION, "late"),
        ('application = "request-response"\nresponse = "40MB"', Cause.LINK, "one full"),
    ],
)
def test_applications_are_told_by_their_requests_and_messages(
    application: str, cause: Cause, kind: str, tmp_path: Path
) -> None:
    run = finished(Case("application", ONE_PATH + application, (), cause), "simulated", tmp_path)
    said = leading(run)
    assert (said.cause, said.advice) == (cause, "")
    assert kind in said.detail
    assert said.share > 0.5
    assert sum(shares(run).values()) == pytest.approx(1)


def test_datagrams_are_no_connection(tmp_path: Path) -> None:
    case = Case("udp", ONE_PATH + 'application = "udp"\nrate = "1Mb/s"', (), Cause.APPLICATION)
    assert run_limits(finished(case, "simulated", tmp_path)) == []


def test_a_queue_that_is_too_short_is_named_and_a_longer_one_fills_the_link(tmp_path: Path) -> None:
    scenario = ONE_PATH.replace('rtt = "20ms"', 'rtt = "20ms"\nqueue = "2 packets"')
    overrides = ('flows.main.congestion="reno"',)
    case = Case("short", scenario, overrides, Cause.CONGESTION_WINDOW)
    (diagnosis,) = run_limits(finished(case, "simulated", tmp_path / "short"))
    said = diagnosis.limits[0]
    assert said.cause is Cause.CONGESTION_WINDOW
    assert "one's full queue refused" in said.detail
    advice = "a longer queue, such as what is sent in a round trip: links.one.queue=100kB"
    assert said.advice == advice
    longer = Case("longer", scenario, (*overrides, *diagnosis.remedy.overrides), Cause.LINK)
    assert leading(finished(longer, "simulated", tmp_path / "longer")).cause is Cause.LINK


def test_a_window_that_a_queue_does_not_hold_comes_with_a_longer_queue(tmp_path: Path) -> None:
    """With the larger buffer alone the connection came to half of what it was."""
    scenario = """
duration = "8s"
tunables.scheduler = "linux-default"
hosts = ["a", "b"]
links.one = { between = ["a", "b"], rate = "200Mb/s", rtt = "10ms", queue = "10 packets" }
flows.main = { from = "a", to = "b", buffer = "192kB" }
"""
    case = Case("held", scenario, (), Cause.RECEIVE_WINDOW)
    (diagnosis,) = run_limits(finished(case, "simulated", tmp_path / "held"))
    assert diagnosis.limits[0].cause is Cause.RECEIVE_WINDOW
    assert diagnosis.limits[0].advice.endswith(", with a longer queue: links.one.queue=250kB")
    case = Case("free", scenario, diagnosis.remedy.overrides, Cause.LINK)
    assert leading(finished(case, "simulated", tmp_path / "free")).cause is Cause.LINK


@pytest.mark.parametrize("key", ["write_rate", "read_rate"])
def test_nothing_is_advised_where_the_application_asks_for_no_more(
    key: str, tmp_path: Path
) -> None:
    scenario = f"""
duration = "8s"
hosts = ["a", "b"]
links.one = {{ between = ["a", "b"], rate = "20Mb/s", rtt = "10ms", queue = "10 packets" }}
flows.main = {{ from = "a", to = "b", {key} = "5Mb/s", buffer = "1MB", congestion = "reno" }}
"""
    case = Case("asked", scenario, (), Cause.CONGESTION_WINDOW)
    (diagnosis,) = run_limits(finished(case, "simulated", tmp_path))
    assert not any(".queue=" in limit.advice for limit in diagnosis.limits)


def test_windows_that_the_scheduler_halves_want_buffers_and_not_fewer_losses(
    tmp_path: Path,
) -> None:
    scenario = """
duration = "8s"
hosts = ["a", "b"]
links.dsl = { between = ["a", "b"], rate = "1Mb/s", rtt = "30ms", backward.rate = "50Mb/s" }
links.sat = { between = ["a", "b"], rate = "3Mb/s", rtt = "600ms", backward.rate = "90Mb/s" }
flows.main = { from = "b", to = "a", client = "a" }
"""
    case = Case("halved", scenario, (), Cause.CONGESTION_WINDOW)
    halved = finished(case, "simulated", tmp_path / "halved")
    (diagnosis,) = run_limits(halved)
    said = diagnosis.limits[0]
    assert said.cause is Cause.CONGESTION_WINDOW
    assert "halved by the scheduler for holding others up" in said.detail
    case = Case("larger", scenario, diagnosis.remedy.overrides, Cause.LINK)
    larger = finished(case, "simulated", tmp_path / "larger")
    carried = [sum(row["tx_bytes"] for row in run.rows("links")) for run in (halved, larger)]
    assert carried[1] > 2 * carried[0]


def as_a_kernels(run: Run, folder: Path, instead: dict[str, str], dropped: int) -> Run:
    """Return a copy of a run with other reasons, and data that the receiver dropped above TCP."""
    shutil.copytree(run.folder, folder)
    table = run.table("limits")
    reasons = [instead.get(reason, reason) for reason in table["limited_by"].to_pylist()]
    place = table.column_names.index("limited_by")
    late = table.set_column(place, "limited_by", pa.array(reasons))
    pq.write_table(late, folder / "limits.parquet")
    counter = {"host": "bob", "counter": "MPTcpExtNoDSSInWindow", "before": 0, "after": dropped}
    schema = run.table("counters").schema
    pq.write_table(pa.Table.from_pylist([counter], schema), folder / "counters.parquet")
    return Run(folder)


def test_missing_data_acks_are_a_detail_without_advice(tmp_path: Path) -> None:
    """As a kernel's run has it, made of one whose send buffer is too small."""
    case = Case("small", ONE_PATH, ("flows.main.send_buffer=64KiB",), Cause.SEND_BUFFER)
    run = finished(case, "simulated", tmp_path / "small")
    late = as_a_kernels(run, tmp_path / "late", {"send-buffer": "data-ack"}, dropped=0)
    (diagnosis,) = run_limits(late)
    said = diagnosis.limits[0]
    assert (said.cause, said.advice) == (Cause.SEND_BUFFER, "")
    assert said.detail == "acknowledged by the subflows, DATA_ACKs missing"
    assert diagnosis.remedy.overrides == ()


@pytest.mark.parametrize(("dropped", "send_buffer"), [(0, "1MB"), (48, "1MB"), (48, "8KiB")])
def test_what_a_receiver_drops_above_tcp_is_missing(
    dropped: int, send_buffer: str, tmp_path: Path
) -> None:
    """As a kernel's run has it, made of one whose buffers are too small."""
    overrides = ("flows.main.receive_buffer=64KiB", f"flows.main.send_buffer={send_buffer}")
    case = Case("small", ONE_PATH, overrides, Cause.RECEIVE_WINDOW)
    run = finished(case, "simulated", tmp_path / "small")
    instead = {"receive-window": "window-data-ack", "send-buffer": "data-ack"}
    (diagnosis,) = run_limits(as_a_kernels(run, tmp_path / "other", instead, dropped))
    said = diagnosis.limits[0]
    if dropped:
        assert said.cause is Cause.HEAD_OF_LINE
        assert said.detail == "dropped above TCP by the receiver (MPTcpExtNoDSSInWindow)"
        larger = "a receive buffer well above the send buffer: flows.main.receive_buffer=4MB"
        assert said.advice == ("" if send_buffer == "8KiB" else larger)
    else:
        assert (said.cause, said.advice) == (Cause.RECEIVE_WINDOW, "")
        assert said.detail == "acknowledged by the subflows, DATA_ACKs missing"


def test_the_buffer_that_is_advised_holds_for_paths_that_it_brings_into_use(tmp_path: Path) -> None:
    """One for the fast path alone would let the slow one hold everything up."""
    text = """
duration = "2s"
hosts = ["a", "b"]
tunables.scheduler = "2012"
links.fast = { between = ["a", "b"], rate = "50Mb/s", rtt = "10ms" }
links.slow = { between = ["a", "b"], rate = "1Mb/s", rtt = "60ms" }
flows.main = { from = "a", to = "b", buffer = "20kB" }
"""
    case = Case("unlike", text, (), Cause.RECEIVE_WINDOW)
    (diagnosis,) = run_limits(finished(case, "simulated", tmp_path))
    assert diagnosis.limits[0].cause is Cause.RECEIVE_WINDOW
    assert "(2 x 51 Mb/s x 60 ms)" in diagnosis.remedy.advice

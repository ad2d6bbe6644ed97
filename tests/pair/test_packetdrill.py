"""Packetdrill's scripts against our stack: the parser, and that a script can pass and can fail."""

from __future__ import annotations

import pytest
from bench.packetdrill.play import Outcome, Player
from bench.packetdrill.reasons import Reason
from bench.packetdrill.script import Call, Command, Packet, ScriptError, parse, split
from tests.times import MS, SECOND

SERVER = """// A server that receives and sends, and ends the stream first.
--tolerance_usecs=100000
`../common/defaults.sh
sysctl -q net.mptcp.close_timeout=1`

+0     socket(..., SOCK_STREAM, IPPROTO_MPTCP) = 3
+0     bind(3, ..., ...) = 0
+0     listen(3, 1) = 0
+0     <  addr[c0] > addr[s0]  S  0:0(0)  win 65535 <mss 1460, nop, wscale 7, mpcapable v1 flags[flag_h] nokey>
+0     >  S. 0:0(0) ack 1 <mss 1460, nop, wscale 8, mpcapable v1 flags[flag_h] key[skey]>
+0.01  <  . 1:1(0) ack 1 win 257 <mpcapable v1 flags[flag_h] key[ckey=5, skey]>
+0     accept(3, ..., ...) = 4
+0     <  P. 1:101(100) ack 1 win 257 <dss dack4=1 dsn8=1 ssn=1 dll=100 nocs, nop, nop>
+0     >  . 1:1(0) ack 101 <dss dack8=101 nocs>
+0     read(4, ..., 1000) = 100
+0     write(4, ..., 300) = 300
+0     >  P. 1:301(300) ack 101 <dss dack8=101 dsn8=1 ssn=1 dll=300 nocs, nop, nop>
+0.1   <  . 101:101(0) ack 301 win 257 <dss dack8=301 nocs>
"""  # noqa: E501
END = """
+0     close(4) = 0
+0     >  . 301:301(0) ack 101 <dss dack8=101 dsn8=301 ssn=0 dll=1 nocs fin, nop, nop>
+0     <  . 101:101(0) ack 301 win 257 <dss dack8=302 nocs>
"""
CLIENT = """
0.0    socket(..., SOCK_STREAM, IPPROTO_MPTCP) = 3
+0     fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
+0     connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)
+0     >  S  0:0(0) <mss 1460, sackOK, TS val 100 ecr 0, nop, wscale 8, mpcapable v1 flags[flag_h] nokey>
+0.02  <  S. 0:0(0) ack 1 win 65535 <mss 1460, sackOK, TS val 700 ecr 100, nop, wscale 8, mpcapable v1 flags[flag_h] key[skey=2]>
+0     >  . 1:1(0) ack 1 <nop, nop, TS val 100 ecr 700, mpcapable v1 flags[flag_h] key[ckey, skey]>
+0...0.02  poll([{fd=3,
                  events=POLLOUT,
                  revents=POLLOUT}], 1, 1000) = 1
"""  # noqa: E501


def played(text: str) -> Outcome:
    return Player(parse(text)).play()


def test_statements_may_span_lines_and_times_are_ranges() -> None:
    script = parse(SERVER + "+0.1~+0.3  < R 1:1(0)\n" + CLIENT)
    assert script.tolerance_ns == 100 * MS
    command = script.events[0].body
    assert isinstance(command, Command)
    assert command.text.splitlines() == [
        "../common/defaults.sh",
        "sysctl -q net.mptcp.close_timeout=1",
    ]
    ranged = next(event for event in script.events if event.end_ns != event.start_ns)
    assert (ranged.start_ns, ranged.end_ns) == (SECOND // 10, 3 * SECOND // 10)
    assert not ranged.is_blocking
    poll = script.events[-1]
    assert (poll.is_blocking, poll.end_ns) == (True, 20 * MS)
    assert isinstance(poll.body, Call)
    assert poll.body.arguments[1:] == ["1", "1000"]


def test_packets_have_addresses_numbers_and_options() -> None:
    text = (
        "+0 > [tos 0x04] addr[a] > addr[b] P. 5:8(3) ack 9 win 7 <nop, TS val 1 ecr 2, "
        'add_address address_id=3 addr[e=inet_addr("1.2.3.4")] port=8 hmac=auto>'
    )
    packet = parse(text).events[0].body
    assert isinstance(packet, Packet)
    assert (packet.inbound, packet.flags, packet.seq, packet.payload_bytes) == (False, "P.", 5, 3)
    assert (packet.ack, packet.window, packet.tos) == (9, 7, 4)
    assert (packet.source, packet.destination) == ("a", "b")
    nothing, stamps, address = packet.options
    assert (nothing.name, stamps.words) == ("nop", ["val", "1", "ecr", "2"])
    assert address.values["addr"] == 'e=inet_addr("1.2.3.4")'
    assert (address.values["port"], address.values["hmac"]) == ("8", "auto")
    toward = parse("+0 < > addr[b] F. 1:1(0) ack 1").events[0].body
    assert isinstance(toward, Packet)
    assert (toward.inbound, toward.source, toward.destination) == (True, "", "b")


def test_commas_split_outside_brackets_only() -> None:
    assert split("a, key[b, c], f(d, e)") == ["a", "key[b, c]", "f(d, e)"]


@pytest.mark.parametrize("text", ["socket() = 3", "+0 `echo", "+0 what is this", "+0 < S one"])
def test_what_is_not_understood_is_an_error_with_its_line(text: str) -> None:
    with pytest.raises(ScriptError, match="line 2"):
        parse(f"// nothing\n{text}\n")


def test_a_script_passes() -> None:
    assert played(SERVER + END) == Outcome()
    assert played(CLIENT) == Outcome()


@pytest.mark.parametrize(
    ("expected", "other", "failure"),
    [
        ("ack 101 <dss dack8=101 nocs>", "ack 102 <dss dack8=101 nocs>", "ack: 102 expected"),
        ("dack8=101 nocs>", "dack8=99 nocs>", "dack: 99 expected, 101 seen"),
        ("dsn8=1 ssn=1 dll=300", "dsn8=2 ssn=1 dll=300", "dsn: 2 expected, 1 seen"),
        ("read(4, ..., 1000) = 100", "read(4, ..., 1000) = 99", "returned 100"),
        ("<mss 1460, nop, wscale 8", "<mss 1400, nop, wscale 8", "mss: 1400 expected"),
        ("+0     >  P. 1:301(300)", "+5     >  P. 1:301(300)", "from its time"),
        ("write(4, ..., 300) = 300", "write(4, ..., 300) = -1 EPIPE", "expected -1 EPIPE"),
    ],
)
def test_a_script_that_expects_something_else_fails(
    expected: str, other: str, failure: str
) -> None:
    assert expected in SERVER
    outcome = played(SERVER.replace(expected, other))
    assert outcome.verdict == "fail"
    assert failure in outcome.failure


def test_a_packet_that_does_not_come_is_a_failure() -> None:
    assert "no packet came" in played(SERVER + "+0 > . 301:301(0) ack 101 <dss dack8=101>").failure


def test_fast_open_is_left_out_and_said() -> None:
    outcome = played(
        "+0 socket(..., SOCK_STREAM, IPPROTO_MPTCP) = 3\n"
        "+0 sendto(3, ..., 500, MSG_FASTOPEN, ..., ...) = 500\n"
    )
    assert (outcome.verdict, outcome.reasons) == ("RFC", [Reason.FAST_OPEN])


def test_a_segment_without_timestamps_gets_them_and_it_is_said() -> None:
    outcome = played(CLIENT + "+0 < P. 1:3(2) ack 1 win 9 <dss dack4=1 dsn8=1 nocs>\n")
    assert outcome.reasons == [Reason.NO_TIMESTAMPS]


def test_a_write_without_subflow_waits_for_a_join() -> None:
    reset = "+0.1 < R. 101:101(0) ack 301 win 0\n+0.1 write(4, ..., 1) = -1 EPIPE (Broken pipe)\n"
    assert played(SERVER + reset).reasons == [Reason.BREAK_BEFORE_MAKE]
    later = reset.replace("+0.1 write", "+1.1 write")
    assert played(SERVER + later) == Outcome(), "close_timeout is over"

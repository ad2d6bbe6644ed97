"""Requests against what iproute2 6.1 sends for the same command (read from strace on Linux 6.18).

Attributes may come in another order, so messages are compared by meaning: the fixed header byte by
byte, then attributes as a nested mapping.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_interface

import pytest

from mptcplab.linux.kernel import rtnl, tc
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, decode_endpoint, encode_endpoint
from mptcplab.linux.kernel.netlink import Request, attribute_list, attributes

GENL_HEADER_BYTES = 4
Tree = dict[int, "Tree | bytes"]


def tree(data: bytes) -> Tree | bytes:
    """Return attributes as a mapping, or the bytes themselves where they are not attributes."""
    try:
        found = list(attribute_list(data))
    except ValueError:
        return data.rstrip(b"\0")
    used = sum((len(value) + 7) & ~3 for _, value in found)
    if not found or used != len(data) or any(kind == 0 for kind, _ in found):
        return data.rstrip(b"\0")  # iproute2 leaves a text's final zero off in places
    return {kind: tree(value) for kind, value in found}


def meaning(body: bytes, header_bytes: int) -> tuple[bytes, Tree | bytes]:
    """Return the fixed header and the attributes behind it."""
    return body[:header_bytes], tree(body[header_bytes:])


@pytest.mark.parametrize(
    ("request_", "kind", "header_bytes", "golden"),
    [
        pytest.param(
            tc.classifier_hooks(2),
            36,
            20,
            "00000000020000000000fffff1ffffff000000000b000100636c736163740000",
            id="tc qdisc add dev d1 clsact",
        ),
        pytest.param(
            tc.redirect(2, tc.INGRESS_HOOK, 3),
            44,
            20,
            "000000000200000000000000f2ffffff000301000800010075333200600002003800070034000100"
            "0b0001006d6972726564000024000280200002000000000000000000040000000000000000000000"
            "01000000030000002400050001000100000000000000000000000000000000000000000000000000"
            "00000000",
            id="tc filter add dev d1 ingress ... u32 match u32 0 0 action mirred egress redirect",
        ),
        pytest.param(
            rtnl.add_address(3, ip_interface("192.168.21.1/24")),
            20,
            8,
            "021800000300000008000200c0a8150108000100c0a81501",
            id="ip addr add 192.168.21.1/24 dev d0",
        ),
        pytest.param(
            rtnl.add_rule(ip_interface("192.168.21.1/24"), 6, 1006),
            32,
            12,
            "02002000060000010000000008000200c0a8150108000600ee030000",
            id="ip rule add from 192.168.21.1 table 6 pref 1006",
        ),
        pytest.param(
            rtnl.add_route(
                ip_interface("0.0.0.0/0").network,
                3,
                table=6,
                source=ip_interface("192.168.21.1/24"),
                advertised_mss=1400,
            ),
            24,
            12,
            "020000000604fd010000000008000700c0a8150108000400030000000c0008000800080078050000",
            id="ip route replace default dev d0 proto static scope link src ... advmss 1400",
        ),
        pytest.param(
            rtnl.add_route(
                ip_interface("10.0.1.0/24").network,
                3,
                advertised_mss=1400,
                congestion="cubic",
            ),
            24,
            12,
            "02180000fe04fd0100000000080001000a00010008000400030000001800080008000800780500000900100063"
            "75626963000000",
            id="ip route replace 10.0.1.0/24 dev d0 scope link advmss 1400 congctl cubic",
        ),
        pytest.param(
            rtnl.add_route(
                ip_interface("0.0.0.0/0").network,
                3,
                gateway=ip_interface("10.0.1.2/24"),
                metric=1,
            ),
            24,
            12,
            "02000000fe04000100000000080005000a00010208000600010000000800040003000000",
            id="ip route replace default via 10.0.1.2 dev d0 metric 1 proto static",
        ),
        pytest.param(
            rtnl.add_shared_route(
                ip_interface("10.9.0.0/16").network,
                [(3, ip_interface("10.0.1.2/24")), (5, ip_interface("10.0.2.2/24"))],
            ),
            24,
            12,
            "02100000fe04000100000000080001000a090000240009001000000003000000080005000a000102"
            "1000000005000000080005000a000202",
            id="ip route replace 10.9.0.0/16 proto static nexthop via ... dev d0 nexthop ...",
        ),
        pytest.param(
            rtnl.add_shared_route(ip_interface("10.10.0.0/16").network, []),
            24,
            12,
            "02100000fe04000700000000080001000a0a0000",
            id="ip route replace unreachable 10.10.0.0/16 proto static",
        ),
        pytest.param(
            rtnl.add_vlan(rtnl.Vlan("d0.520", 520, 3, 1400)),
            16,
            16,
            "00000000000000000000000000000000080004007805000008000500030000000b00030064302e35"
            "323000001800120008000100766c616e0c0002000600010008020000",
            id="ip link add link d0 name d0.520 mtu 1400 type vlan id 520",
        ),
        pytest.param(
            rtnl.set_dormant(3, True),
            16,
            16,
            "0000000003000000000000000000000005001100010000000500100005000000",
            id="ip link set dev d0 mode dormant state dormant",
        ),
        pytest.param(
            rtnl.add_bridge("sw"),
            16,
            16,
            "0000000000000000000000000000000007000300737700002c0012000a0001006272696467650000"
            "1c000200080005000000000008000100000000000500170000000000",
            id="ip link add sw type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        ),
    ],
)
def test_requests_mean_what_iproute2_sends(
    request_: Request, kind: int, header_bytes: int, golden: str
) -> None:
    assert request_.kind == kind
    assert meaning(request_.body, header_bytes) == meaning(bytes.fromhex(golden), header_bytes)


@pytest.mark.parametrize(
    ("endpoint", "golden"),
    [
        pytest.param(
            Endpoint(ip_address("192.168.21.1"), Flags.SUBFLOW | Flags.BACKUP, 3, 0, 3),
            "010100002c000180050002000300000008000600060000000800070003000000060001000200000008"
            "000300c0a81501",
            id="ip mptcp endpoint add 192.168.21.1 id 3 dev d0 subflow backup",
        ),
        pytest.param(
            Endpoint(ip_address("fd00::1"), Flags.SIGNAL, 0, 40001),
            "0101000030000180080006000100000006000500419c0000060001000a00000014000400fd00000000"
            "0000000000000000000001",
            id="ip mptcp endpoint add fd00::1 port 40001 signal",
        ),
    ],
)
def test_endpoints_mean_what_iproute2_sends(endpoint: Endpoint, golden: str) -> None:
    expected = bytes.fromhex(golden)[GENL_HEADER_BYTES:]
    assert tree(encode_endpoint(1, endpoint)) == tree(expected)
    assert decode_endpoint(attributes(expected)[1]) == endpoint


def test_tbf_has_the_rate_limit_overhead_and_burst_that_iproute2_sends() -> None:
    # tc qdisc add dev d0 root handle 2: tbf rate 1gbit burst 128kb limit 500000 overhead 24
    shaper = tc.TokenBucket(1_000_000_000, 500_000, 131_072, 24)
    body = tc.token_bucket(3, shaper).body
    assert body[:20] == bytes.fromhex("000000000300000000000200ffffffff00000000")
    options = attributes(attributes(body[20:])[2])
    rate = options[1][:12]
    golden_rate = bytes.fromhex("03011800ffff000040597307")
    assert rate[1:4] == golden_rate[1:4]  # link layer, overhead; the first byte is for old tables
    assert rate[8:] == golden_rate[8:]
    assert options[1][24:28] == bytes.fromhex("20a10700")  # the limit
    assert options[6] == bytes.fromhex("00000200")  # the burst
    assert tc.parse_token_bucket(attributes(body[20:])[2]) == (1_000_000_000, 500_000)


def test_tbf_rates_beyond_32_bits_go_by_their_own_attribute() -> None:
    body = tc.token_bucket(3, tc.TokenBucket(100_000_000_000, 500_000, 131_072)).body
    assert tc.parse_token_bucket(attributes(body[20:])[2]) == (100_000_000_000, 500_000)


def test_netem_has_the_loss_and_limit_that_iproute2_sends_and_its_delay_in_nanoseconds() -> None:
    # tc qdisc add dev d1 root handle 1: netem limit 1000 delay 16650us loss 1%
    golden = bytes.fromhex("3cf80300e8030000295c8f02000000000000000000000000")
    asked = tc.Impairment(16_650_000, 0, 0.01, 1000)
    body = tc.impairment(2, asked).body
    assert body[:20] == bytes.fromhex("000000000200000000000100ffffffff00000000")
    options = attributes(body[20:])[2]
    assert options[4:12] == golden[4:12]
    # iproute2 sends the delay as ticks of 64 ns as well, for kernels before 4.15
    (ticks,) = struct.unpack("=I", golden[:4])
    found = tc.parse_impairment(options)
    assert found.delay_ns // 64 == ticks
    assert (found.jitter_ns, found.limit_packets) == (0, 1000)
    assert found.loss == pytest.approx(0.01)


def test_netem_with_jitter_keeps_frames_in_order_by_a_rate() -> None:
    options = attributes(tc.impairment(2, tc.Impairment(10**7, 10**6, 0.0, 10)).body[20:])[2]
    assert {6, 8} <= set(attributes(options[24:]))
    assert tc.parse_impairment(options) == tc.Impairment(10**7, 10**6, 0.0, 10)

"""Values recorded from a live Linux 6.18 kernel: derivations, option bytes and checksums."""

from __future__ import annotations

import pytest
from tests.keys import IDSN_A, IDSN_B, KEY_A, KEY_B, NONCE_A, NONCE_B

from mptcplab.wire.checksum import add_sums, dss_checksum, ones_sum
from mptcplab.wire.ip import parse_address
from mptcplab.wire.keys import add_addr_hmac, join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    CAPABLE_CHECKSUM,
    CAPABLE_HMAC,
    Dss,
    MpCapable,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
)
from mptcplab.wire.mptcp_decode import decode_mptcp

HMAC_A = "257ba62383ee2af1c9c08caf55cc919a60102079" + "9224c8501c95f6dbe6f18edc"
HMAC_B = "9ca9a789f0b87bc9" + "7954218f78e4bba8795ca67d6cd37d1b4da6dca94a84fe90"


def test_tokens_and_initial_sequence_numbers() -> None:
    assert token_and_idsn(KEY_A) == (0x9C091F03, IDSN_A)
    assert token_and_idsn(KEY_B) == (0x6D90C0FD, IDSN_B)


def test_version_0_derives_from_sha1() -> None:
    # SHA-1 of eight zero bytes, from sha1sum: 05fe405753166f125559e7c9ac558654f107c7e9.
    assert token_and_idsn(0, version=0) == (0x05FE4057, 0xAC558654F107C7E9)
    assert len(join_hmac(KEY_A, KEY_B, 1, 2, version=0)) == 20


def test_join_hmacs() -> None:
    assert join_hmac(KEY_B, KEY_A, NONCE_B, NONCE_A).hex() == HMAC_B
    assert join_hmac(KEY_A, KEY_B, NONCE_A, NONCE_B).hex() == HMAC_A


@pytest.mark.parametrize(
    ("sender", "receiver", "address_id", "address", "port", "expected"),
    [
        (KEY_B, KEY_A, 1, "10.2.0.2", None, "3e8f34e2ab852c55"),
        (0x8B16BA18454F8C52, 0xDB350CF318E47B97, 3, "10.1.0.2", 7003, "40bc2fabe84c694c"),
        (0xF9F67D501403B533, 0x294F55A29E3D6464, 1, "fd00:2::2", None, "9898b03778327322"),
    ],
)
def test_add_addr_hmacs(
    sender: int, receiver: int, address_id: int, address: str, port: int | None, expected: str
) -> None:
    hmac = add_addr_hmac(sender, receiver, address_id, parse_address(address), port)
    assert hmac.hex() == expected


@pytest.mark.parametrize(
    ("encoded", "option"),
    [
        ("1e0c10016d90c0fd58817b12", MpJoinSyn(False, 1, 0x6D90C0FD, NONCE_A)),
        (
            "1e1010019ca9a789f0b87bc9834bedc4",
            MpJoinSynAck(False, 1, bytes.fromhex(HMAC_B)[:8], NONCE_B),
        ),
        (
            "1e181000257ba62383ee2af1c9c08caf55cc919a60102079",
            MpJoinAck(bytes.fromhex(HMAC_A)[:20]),
        ),
        (
            "1e16200dc35de569105a2ad7d0abc3fd00000001000e",
            Dss((IDSN_B + 1) & 0xFFFF_FFFF, False, IDSN_A + 1, True, 1, 14),
        ),
        ("1e0c2003105a2ad7d0abc40b", Dss(0x105A2AD7D0ABC40B)),
        (
            "1e1a201f730c1714c35de695105a2ad7d0abec0b000000000001",
            Dss(0x730C1714C35DE695, True, 0x105A2AD7D0ABEC0B, True, 0, 1, data_fin=True),
        ),
        (
            "1e180181b481b3d168e8e36d19baf9dc9c5916af1388663f",
            MpCapable(
                1,
                CAPABLE_CHECKSUM | CAPABLE_HMAC,
                0xB481B3D168E8E36D,
                0x19BAF9DC9C5916AF,
                5000,
                0x663F,
            ),
        ),
        ("1e040101", MpCapable(1)),
    ],
)
def test_option_bytes(encoded: str, option: MptcpOption) -> None:
    assert option.encode().hex() == encoded
    assert option.length_bytes == len(encoded) // 2
    assert decode_mptcp(bytes.fromhex(encoded)) == option


def test_checksum_of_a_first_mapping() -> None:
    token, idsn = token_and_idsn(0xC402DBA8C118A4FD)
    assert idsn == 0x14F183DBA219E0C6
    assert token >> 32 == 0
    assert dss_checksum(idsn + 1, 1, 14, ones_sum(b"hello MPTCP v1")) == 0x386B


def test_checksum_covers_all_segments_of_a_mapping_and_data_fin() -> None:
    idsn = token_and_idsn(0xB481B3D168E8E36D)[1]
    assert idsn == 0x9AAAD8E63B4FFF7D
    assert dss_checksum(idsn + 1, 1, 5000, ones_sum(b"q" * 5000)) == 0x663F
    assert dss_checksum(idsn + 5001, 0, 1, 0) == 0x3E17
    piece_sum, done = 0, 0
    for size in (1399, 1, 1600, 2000):
        piece_sum = add_sums(piece_sum, ones_sum(b"q" * size), odd=done % 2 == 1)
        done += size
    assert dss_checksum(idsn + 1, 1, 5000, piece_sum) == 0x663F

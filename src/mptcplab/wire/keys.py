"""What follows from the keys of a connection: tokens, initial data sequence numbers, HMACs.

Version 0 hashes with SHA-1 (RFC 6824 section 3.1), version 1 with SHA-256 (RFC 8684 section 3.1).
"""

from __future__ import annotations

import hashlib
import hmac

from mptcplab.wire.mptcp import ADD_ADDR_HMAC_BYTES


def _hash_name(version: int) -> str:
    return "sha1" if version == 0 else "sha256"


def token_and_idsn(key: int, version: int = 1) -> tuple[int, int]:
    """Return the token (32 bits) and the initial data sequence number (64 bits) of a key.

    Token: the most significant 32 bits of the key's hash (RFC 8684 section 3.2). IDSN: its least
    significant 64 bits (section 3.1); the first data byte has IDSN + 1.
    """
    digest = hashlib.new(_hash_name(version), key.to_bytes(8, "big"), usedforsecurity=False)
    value = digest.digest()
    return int.from_bytes(value[:4], "big"), int.from_bytes(value[-8:], "big")


def join_hmac(
    sender_key: int, receiver_key: int, sender_nonce: int, receiver_nonce: int, version: int = 1
) -> bytes:
    """Return the whole HMAC by which the sender of an MP_JOIN authenticates (RFC 8684 section 3.2).

    The message is the sender's nonce and then the receiver's, the key the two keys in that order.
    The SYN/ACK carries its left 8 bytes, the third packet its left 20.
    """
    key = sender_key.to_bytes(8, "big") + receiver_key.to_bytes(8, "big")
    message = sender_nonce.to_bytes(4, "big") + receiver_nonce.to_bytes(4, "big")
    return hmac.digest(key, message, _hash_name(version))


def add_addr_hmac(
    sender_key: int, receiver_key: int, address_id: int, address: bytes, port: int | None = None
) -> bytes:
    """Return the 8 bytes of HMAC in an ADD_ADDR of version 1 (RFC 8684 section 3.4.1).

    ``port`` counts as 0 where the option has none.
    """
    key = sender_key.to_bytes(8, "big") + receiver_key.to_bytes(8, "big")
    message = bytes((address_id,)) + address + (port or 0).to_bytes(2, "big")
    return hmac.digest(key, message, "sha256")[-ADD_ADDR_HMAC_BYTES:]

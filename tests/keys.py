"""The keys and nonces of one connection and one join, recorded from a live Linux 6.18 kernel."""

from __future__ import annotations

KEY_A = 0x27A593689649F740
KEY_B = 0x32286731AF0C9BC2
NONCE_A = 0x58817B12
NONCE_B = 0x834BEDC4
IDSN_A = 0x105A2AD7D0ABC3FC
IDSN_B = 0x730C1714C35DE568

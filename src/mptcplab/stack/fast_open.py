"""TCP Fast Open of one host (RFC 7413): cookies that it hands out, and those that it was given.

As Linux's tcp_fastopen.c and tcp_metrics.c: a server keeps nothing of a cookie but the secret that
it is made with; a client keeps cookies by pair of addresses, with the MSS that the peer announced,
since data leave before it does so again.
"""

from __future__ import annotations

import hashlib
from random import Random
from typing import Final

COOKIE_BYTES: Final = 6
"""RFC 7413 section 4.1.2 wants 4 to 16. With MP_CAPABLE, timestamps and window scaling a SYN/ACK
has room for 7: RFC 8684 appendix B.1 has the listener choose a cookie that fits. Linux's have 8
bytes, and its SYN/ACK goes without timestamps where it has MP_CAPABLE and a cookie."""

SECRET_BYTES: Final = 16
"""TCP_FASTOPEN_KEY_LENGTH."""

FALLBACK_MSS_BYTES: Final = 536
"""What of a peer is assumed that announced none (RFC 7413 section 4.1.3, RFC 9293: IPv4)."""

LOSSES_TOLERATED: Final = 1
"""tcp_fastopen_cookie_check: after more lost SYNs in a row the option is left out for a while."""

PAUSE_NS: Final = 60_000_000_000
"""That while, doubled with each loss (60 * HZ << syn_loss)."""

MOST_PEERS: Final = 1024
"""Cookies kept: the oldest makes room (tcp_metrics keeps a bounded number as well)."""


class Known:
    """What a client knows of one peer."""

    __slots__ = ("cookie", "losses", "lost_ns", "mss_bytes")

    def __init__(self) -> None:
        self.cookie: bytes = b""
        """Empty while there is none: then it is asked for."""
        self.mss_bytes: int = FALLBACK_MSS_BYTES
        self.losses: int = 0
        """SYNs with data in a row of which only the plain repetition was answered."""
        self.lost_ns: int = 0

    def pauses(self, now_ns: int) -> bool:
        """Say whether such SYNs seem not to get through, so that none is to be tried now."""
        return self.losses > LOSSES_TOLERATED and now_ns < self.lost_ns + (PAUSE_NS << self.losses)


class FastOpen:
    """The cookies of one host, in both roles."""

    __slots__ = ("_known", "_random", "_secret")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._secret: bytes = b""
        """Made when it is first needed."""
        self._known: dict[tuple[bytes, bytes], Known] = {}

    def cookie_for(self, client: bytes, server: bytes) -> bytes:
        """Return the cookie of a client's address at one of ours (RFC 7413 section 4.1.2)."""
        if not self._secret:
            self._secret = self._random.getrandbits(8 * SECRET_BYTES).to_bytes(SECRET_BYTES, "big")
        digest = hashlib.blake2s(client + server, key=self._secret, digest_size=COOKIE_BYTES)
        return digest.digest()

    def forget_secret(self) -> None:
        """Grant other cookies from now on; those granted before are wrong (RFC 7413 4.1.2)."""
        self._secret = b""

    def peer(self, local: bytes, remote: bytes, now_ns: int) -> Known | None:
        """Return what to open a connection with; ``None`` to leave the option out."""
        known = self._known.get((local, remote))
        if known is None:
            return Known()
        return None if known.pauses(now_ns) else known

    def note_answer(
        self, local: bytes, remote: bytes, cookie: bytes | None, mss_bytes: int, lost_ns: int
    ) -> None:
        """Take in a peer's SYN/ACK: its cookie if it has one, and its MSS.

        ``lost_ns`` is the time where a SYN with data was lost and its plain repetition answered,
        else -1 (tcp_fastopen_cache_set).
        """
        known = self._known.pop((local, remote), None) or Known()
        self._known[local, remote] = known  # the newest
        if cookie:
            known.cookie = cookie
        known.mss_bytes = mss_bytes
        if lost_ns >= 0:
            known.losses += 1
            known.lost_ns = lost_ns
        else:
            known.losses = 0
        if len(self._known) > MOST_PEERS:
            del self._known[next(iter(self._known))]

"""What the two ends of a connection agreed upon: keys, version, flags, numbers, and the mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack.config import StackConfig
from mptcplab.stack.mptcp.dsn import Numbers
from mptcplab.stack.mptcp.mode import OFFERED, PLAIN, Evidence, Mode, next_mode
from mptcplab.wire.keys import token_and_idsn
from mptcplab.wire.mptcp import (
    CAPABLE_CHECKSUM,
    CAPABLE_HMAC,
    CAPABLE_NO_JOIN,
    MpCapable,
)

if TYPE_CHECKING:
    from mypy_extensions import i64


class Session:
    """Shared by a connection and its subflows; it knows neither."""

    __slots__ = (
        "_allow_join_initial",
        "ack_8",
        "checksum",
        "fallback_reason",
        "in_stream_order",
        "infinite_ssn",
        "is_client",
        "joined",
        "local_key",
        "local_token",
        "mode",
        "mptcp",
        "peer_denies_initial",
        "peer_key",
        "peer_key_known",
        "peer_token",
        "rx_numbers",
        "rx_syn_bytes",
        "tx_infinite",
        "tx_numbers",
        "tx_syn_bytes",
        "version",
    )

    def __init__(self, config: StackConfig, is_client: bool) -> None:
        self.is_client: bool = is_client
        self.version: i64 = config.version
        self.checksum: bool = config.checksum
        self._allow_join_initial: bool = config.allow_join_initial
        self.local_key: int = 0
        self.local_token: int = 0
        self.peer_key: int = 0
        self.peer_key_known: bool = False
        self.peer_token: int = 0
        self.peer_denies_initial: bool = False
        """The peer's flag C: no joins to its initial address and port."""
        self.tx_numbers = Numbers()
        """Data sequence numbers of what we send, and of what the peer does."""
        self.rx_numbers = Numbers()
        self.tx_syn_bytes: i64 = 0
        """How much of the stream went with the SYN of the initial subflow (RFC 8684 appendix B.2):
        it has no data sequence numbers, and mappings count that subflow's bytes after it."""
        self.rx_syn_bytes: i64 = 0
        self.ack_8: bool = True
        """Send DATA_ACKs of 8 bytes."""
        self.joined: bool = False
        """A further subflow was established once, if only for the peer: data may go elsewhere."""
        self.fallback_reason: str = ""
        self.infinite_ssn: i64 = -1
        """Subflow sequence number of the first data under our infinite mapping."""
        self.mode: Mode = Mode.OFFERED
        self.mptcp: bool = True
        """What the mode says, for those who ask for every segment: not plain TCP ..."""
        self.tx_infinite: bool = False
        """... what we send has no mappings any more, by a fallback in mid-connection ..."""
        self.in_stream_order: bool = False
        """... and what arrives stands in the order of its subflow, plain or infinite."""
        if not config.mptcp:
            self.set_mode(Mode.PLAIN)

    def set_mode(self, mode: Mode) -> None:
        """Take a mode."""
        self.mode = mode
        self.mptcp = mode is not Mode.PLAIN
        self.tx_infinite = mode in (Mode.TX_INFINITE, Mode.INFINITE)
        self.in_stream_order = mode in (Mode.PLAIN, Mode.RX_INFINITE, Mode.INFINITE)

    def take(self, evidence: Evidence) -> None:
        """Take the mode that ``evidence`` leads to."""
        self.set_mode(next_mode(self.mode, evidence))

    @property
    def fully_established(self) -> bool:
        """Whether the peer proved to have our key, and joins may start (RFC 8684 section 3.1)."""
        return self.mode is not OFFERED and self.mode is not PLAIN

    def set_local_key(self, key: int) -> None:
        """Take our key, from which token and IDSN follow."""
        self.local_key = key
        self.local_token, idsn = token_and_idsn(key, self.version)
        self.tx_numbers.begin_after(idsn)

    def take_capable(self, option: MpCapable) -> None:
        """Take the peer's key, if the option has it, and flags (RFC 8684 section 3.1)."""
        if option.sender_key is not None:
            self.peer_key = option.sender_key
            self.peer_key_known = True
            self.peer_token, idsn = token_and_idsn(option.sender_key, self.version)
            self.rx_numbers.begin_after(idsn)
            self.rx_numbers.leave_out(self.rx_syn_bytes)
        self.checksum = self.checksum or bool(option.flags & CAPABLE_CHECKSUM)
        self.peer_denies_initial = self.version != 0 and bool(option.flags & CAPABLE_NO_JOIN)

    def capable_flags(self) -> int:
        """Return the flags of our MP_CAPABLE: A once either side asks for the checksum."""
        flags = CAPABLE_HMAC
        if self.checksum:
            flags |= CAPABLE_CHECKSUM
        if self.version != 0 and not self._allow_join_initial:
            flags |= CAPABLE_NO_JOIN
        return flags

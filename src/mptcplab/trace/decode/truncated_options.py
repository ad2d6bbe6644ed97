"""MPTCP options that the snap length cut: what was captured of them is used."""

from __future__ import annotations

from mptcplab.wire.mptcp import MpCapable, MpJoinSyn, MptcpOption
from mptcplab.wire.mptcp_decode import decode_mptcp
from mptcplab.wire.text import format_option, format_subtype

_TOKEN_END = 8  # bytes of an MP_JOIN up to its token (RFC 8684 figure 5)


class CutOption(MptcpOption):
    """An option whose end was not captured; values are None where they were cut off."""

    __slots__ = ("_length", "_subtype", "address_id", "token")

    def __init__(self, subtype: int, length: int, address_id: int | None, token: int | None):
        self._subtype = subtype
        self._length = length
        self.address_id = address_id
        self.token = token
        """Of an MP_JOIN on a SYN."""

    @property
    def subtype(self) -> int:
        """The subtype nibble."""
        return self._subtype

    @property
    def length_bytes(self) -> int:
        """The length that the option states."""
        return self._length

    def fields(self) -> tuple[object, ...]:
        """Return every value of the option, in constructor order."""
        return self._subtype, self._length, self.address_id, self.token


def decode_cut(captured: bytes, length: int) -> MptcpOption | str:
    """Decode an option of ``length`` bytes of which the first few (at least three) were captured.

    Returns the reason where it is malformed, whatever the rest.
    """
    whole = decode_mptcp(captured + bytes(length - len(captured)))
    if isinstance(whole, str):
        return whole
    if isinstance(whole, MpCapable) and len(captured) >= 4:
        return MpCapable(
            whole.version,
            whole.flags,
            whole.sender_key if len(captured) >= 12 else None,
            whole.receiver_key if len(captured) >= 20 else None,
        )
    address_id = getattr(whole, "address_id", None) if len(captured) >= 4 else None
    token = whole.token if isinstance(whole, MpJoinSyn) and len(captured) >= _TOKEN_END else None
    return CutOption(whole.subtype, length, address_id, token)


def option_text(option: MptcpOption) -> str:
    """Return an option as ``format_option`` does; of a cut one, its subtype and that it is cut."""
    if isinstance(option, CutOption):
        return f"mp {format_subtype(option.subtype)} (cut off by the snap length)"
    return format_option(option)

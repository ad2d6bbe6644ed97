"""A box that changes payload, as an application-level gateway does."""

from __future__ import annotations

from mptcplab.middleboxes.selective import Selective
from mptcplab.wire.segment import Segment

_CHANGE = 0x20
"""What is flipped of a byte: the case of a letter."""


class Rewrite(Selective):
    """Changes one byte of the payload of each packet that the plan chooses.

    TCP's checksum is right again afterwards: only the DSS checksum can tell (RFC 8684 section
    3.3.1).
    """

    __slots__ = ()

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:  # noqa: ARG002
        """Change the byte in the middle of each packet."""
        out = []
        for part, wanted in self.chosen(segment, outbound):
            if wanted:
                self._change(part)
                self.tallies[outbound].changed += part.packets
            out.append(part)
        return out

    def concerns(self, packet: Segment) -> bool:
        """Say whether there is payload to change, beside what the plan names."""
        return packet.payload_bytes > 0 and super().concerns(packet)

    def _change(self, segment: Segment) -> None:
        content = segment.payload
        changed = bytearray(segment.payload_bytes if content is None else content)
        size = segment.segment_size_bytes or len(changed)
        for start in range(0, len(changed), size):
            changed[start + min(size, len(changed) - start) // 2] ^= _CHANGE
        segment.payload = bytes(changed)

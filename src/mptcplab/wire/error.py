"""The one error that decoding and encoding raise."""

from __future__ import annotations


class WireError(ValueError):
    """Bytes that are not what they should be, or a value that does not fit on the wire."""

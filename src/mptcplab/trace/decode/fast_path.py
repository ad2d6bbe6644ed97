"""Plain packets (Ethernet, IPv4 without options, TCP), recognised in one step.

All other packets, and those with any fault, are left to the steps of the layers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, column, rows
from mptcplab.trace.decode.layers import ETHERNET, TCP, Layers

_HEADER_BYTES: Final = 34
_IP_AT: Final = 14


def take_usual(layers: Layers) -> None:
    """Advance the plain packets to their TCP headers."""
    fits = layers.at + _HEADER_BYTES <= layers.end
    chosen = np.flatnonzero((layers.kind == ETHERNET) & fits)
    if chosen.size == 0:
        return
    header = rows(layers.data, layers.at[chosen], _HEADER_BYTES)
    # EtherType, version and header length; then fragment, time to live, protocol.
    usual = column(header, 12, ">u4") >> 8 == 0x080045
    usual &= column(header, 20, ">u4") & 0x3FFF_00FF == 6
    total = column(header, 16, ">u2").astype(np.int64)
    usual &= total >= 20
    if not usual.all():
        chosen, header, total = chosen[usual], header[usual], total[usual]
    if chosen.size == layers.kind.size:
        _advance(layers, slice(None), header, total)
    else:
        _advance(layers, chosen, header, total)


def _advance(layers: Layers, chosen: Ints | slice, header: NDArray[np.uint8], total: Ints) -> None:
    limit = np.minimum(layers.at[chosen] + _IP_AT + total, layers.limit[chosen])
    layers.limit[chosen] = limit
    layers.end[chosen] = np.minimum(layers.end[chosen], limit)
    layers.source[chosen] = column(header, 26, ">u4")
    layers.destination[chosen] = column(header, 30, ">u4")
    layers.ip_id[chosen] = column(header, 18, ">u2")
    layers.hops[chosen] = header[:, 22]
    layers.at[chosen] += _HEADER_BYTES
    layers.kind[chosen] = TCP

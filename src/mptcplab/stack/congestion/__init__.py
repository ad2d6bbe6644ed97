"""Congestion control: one policy per file, each a subclass of ``base.CongestionControl``.

``CONGESTION_CONTROLS`` names those that come with the stack. Whoever has a class of their own
passes it where these are passed: nothing needs to be registered.
"""

from __future__ import annotations

from mptcplab.stack.congestion.balia import Balia
from mptcplab.stack.congestion.base import CongestionControl
from mptcplab.stack.congestion.bbr import Bbr
from mptcplab.stack.congestion.cubic import Cubic, CubicHyStart
from mptcplab.stack.congestion.dctcp import Dctcp
from mptcplab.stack.congestion.lia import Lia
from mptcplab.stack.congestion.linux_cubic import LinuxCubic
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.congestion.olia import Olia, OliaDraft
from mptcplab.stack.congestion.wvegas import WVegas

CONGESTION_CONTROLS: dict[str, type[CongestionControl]] = {
    "reno": NewReno,
    "cubic": LinuxCubic,
    "cubic-rfc9438": Cubic,
    "cubic-hystart": CubicHyStart,
    "lia": Lia,
    "olia": Olia,
    "olia-draft": OliaDraft,
    "balia": Balia,
    "wvegas": WVegas,
    "dctcp": Dctcp,
    "bbr": Bbr,
}

__all__ = ["CONGESTION_CONTROLS", "CongestionControl"]

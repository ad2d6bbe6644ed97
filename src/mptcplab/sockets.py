"""Blocking and asyncio sockets over mptcplab's own MPTCP stack, on TUN devices (Linux).

See ``docs/extend/sockets.md``.
"""

from mptcplab.linux.sockets import AsyncHost, Host, new_stack, open_tun

__all__ = ["AsyncHost", "Host", "new_stack", "open_tun"]

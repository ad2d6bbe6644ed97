"""Our own stack on TUN devices, with blocking and asyncio sockets.

>>> device = open_tun("mp0", "10.77.0.1/24")                             # doctest: +SKIP
>>> with Host(new_stack()) as host:                                      # doctest: +SKIP
...     host.add_link(device, "10.77.0.2")
...     connection = host.connect("10.77.0.1", 5001)
...     connection.send(b"hello")
...     print(connection.recv(100), connection.state.mptcp)
"""

from mptcplab.linux.sockets.asyncio_host import AsyncHost
from mptcplab.linux.sockets.blocking_host import Host
from mptcplab.linux.sockets.setup import new_stack, open_tun

__all__ = ["AsyncHost", "Host", "new_stack", "open_tun"]

"""The TAP link emulator: the `network` link model in real time, between two TAP devices.

A link is two TAP devices, one in each host's namespace, and one process that carries frames from
one to the other. Frames pass with segmentation and checksum offload, up to 64 KiB at a time, so a
plain Python process moves several Gb/s; the model counts, delays and loses their packets one by
one all the same.

What the builder of a testbed does, in each link's two namespaces and then outside::

    a_fd = open_tap("eth1")           # with the thread in host a's namespace
    b_fd = open_tap("eth1")           # with the thread in host b's namespace
    ...                               # address, MTU, txqueuelen, up: as for any interface
    link = EmulatedLink.start("lan1", a_fd, b_fd, forward, backward, seed=1)
    os.close(a_fd), os.close(b_fd)    # the process has its own

    link.configure(forward=replace(link.forward, rate_bps=10_000_000))
    reading = link.read()             # counters of both directions, lateness, CPU time
    link.stop()                       # the process ends; the devices go with their namespaces

`forward` and `backward` are `ChannelParameters`: a to b, and b to a.
"""

from mptcplab.linux.emulator.child import EmulatedEnd
from mptcplab.linux.emulator.process import EmulatedLink, EmulatorError
from mptcplab.linux.emulator.reading import DirectionReading, Lateness, LinkReading
from mptcplab.linux.emulator.tap import open_tap

__all__ = [
    "DirectionReading",
    "EmulatedEnd",
    "EmulatedLink",
    "EmulatorError",
    "Lateness",
    "LinkReading",
    "open_tap",
]

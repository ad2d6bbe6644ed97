"""Which driver carries a link: what the link asks, over the whole run, decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mptcplab.linux.drivers.kernel import unsupported
from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel.capabilities import netem_works, tap_works
from mptcplab.network.impairments import CapacityTrace, with_implied
from mptcplab.network.topology import Channel, Link
from mptcplab.scenario.model import Action


def _demands(link: Link, timeline: Sequence[Action]) -> list[Channel]:
    """Return all that either direction of a link is, or becomes in the timeline."""
    now = {"forward": link.forward, "backward": link.backward}
    channels = list(now.values())
    for action in sorted(timeline, key=lambda action: action.at_ns):
        if action.verb == "set" and action.target_kind == "link" and action.target == link.name:
            for direction in now:
                if action.direction in ("both", direction):
                    now[direction] = replace(now[direction], **with_implied(action.changes))
                    channels.append(now[direction])
    return channels


def traces_of(link: Link, timeline: Sequence[Action]) -> tuple[CapacityTrace, ...]:
    """Return the recorded capacities that either direction of a link has, or gets."""
    return tuple(channel.trace for channel in _demands(link, timeline) if channel.trace is not None)


def choose_driver(link: Link, timeline: Sequence[Action]) -> str:
    """Return "kernel", "netem" or "tap"; MachineCannotError where none can do it here.

    "auto" takes the kernel's own shaping where that is enough, then netem, then the emulator.
    """
    channels = _demands(link, timeline)
    plain = [text for channel in channels if (text := unsupported(channel, netem=False))]
    impaired = [text for channel in channels if (text := unsupported(channel, netem=True))]
    if link.boxes:
        text = "only the emulator on TAP devices has middleboxes; use the tap driver"
        plain, impaired = [text, *plain], [text, *impaired]
    if link.driver == "kernel" and plain:
        raise MachineCannotError(f"link {link.name}: {plain[0]}")
    if link.driver == "netem" and impaired:
        raise MachineCannotError(f"link {link.name}: {impaired[0]}")
    if link.driver in ("auto", "kernel") and not plain:
        return "kernel"
    if link.driver in ("auto", "netem") and not impaired and netem_works():
        return "netem"
    if link.driver == "netem":
        raise MachineCannotError(
            f"link {link.name}: this kernel has no netem (CONFIG_NET_SCH_NETEM); leave the driver "
            'to "auto", or use "tap"'
        )
    if tap_works():
        return "tap"
    raise MachineCannotError(
        f"link {link.name} needs the TAP emulator, and /dev/net/tun cannot be opened: load the tun "
        "module, give the container the device, or use a kernel with netem"
    )

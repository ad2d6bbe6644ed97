"""Links of real hosts whose delay and loss netem makes: those with ``driver = "netem"``, no others.

netem delays and loses what leaves an interface, so a direction of a link is made at the host that
it begins at.  Rates are those that links have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from mptcplab.network.impairments import JitterDistribution, with_implied
from mptcplab.network.topology import Channel, InterfaceEnd, Link
from mptcplab.scenario.model import Action, Scenario

HANDLE: Final = "7101:"
"""Of our qdiscs, so that undoing removes no other."""
_LIMIT_PACKETS: Final = 1_000_000
_ORDER_KEEPING: Final = "8tbit"  # with a rate, netem keeps frames in order
_MADE: Final = ("delay_ns", "jitter_ns", "loss", "burst_loss", "duplicate", "corrupt")


def netem_ends(scenario: Scenario, host: str) -> list[tuple[Link, str, InterfaceEnd]]:
    """Return the directions of links that are to be made at a host, each with its interface."""
    return [
        (link, direction, end)
        for link, direction, end in _directions(scenario)
        if isinstance(end, InterfaceEnd)
        and end.host == host
        and _is_bent(scenario, link, direction)
    ]


def netem_problems(scenario: Scenario, real: set[str]) -> Iterator[str]:
    """Yield what netem cannot make of links on the ``real`` hosts."""
    for link, direction, end in _directions(scenario):
        at_host = isinstance(end, InterfaceEnd) and end.host in real
        if _is_bent(scenario, link, direction) and not at_host:
            yield (
                f'links.{link.name}.driver: "netem" delays and loses what leaves a host with '
                f"`ssh`; {direction} begins at {end}; expected [links.{link.name}.NAME] of the "
                "direction that a host begins alone"
            )
        for channel in _channels(scenario, link, direction):
            for what in _not_made(channel):
                yield (
                    f"links.{link.name}.{what}: netem does not make it here; expected delay, "
                    "jitter (uniform), loss, burst_loss, duplicate and corrupt"
                )


def is_made(scenario: Scenario, action: Action) -> bool:
    """Return whether netem can do what an action sets."""
    if action.verb != "set" or action.target_kind != "link":
        return False
    wanted = {key for key, _ in action.changes}
    return scenario.topology.link(action.target).driver == "netem" and wanted <= set(_MADE)


def changed(channel: Channel, action: Action) -> Channel:
    """Return a channel after an action."""
    return replace(channel, **with_implied(action.changes))


def arguments(channel: Channel) -> list[str]:
    """Return netem's arguments (tc-netem(8)) for a channel."""
    words = ["netem", "limit", str(_LIMIT_PACKETS)]
    if channel.delay_ns or channel.jitter_ns:
        words += ["delay", _time(channel.delay_ns)]
    if channel.jitter_ns:
        words.append(_time(channel.jitter_ns))
    if channel.burst_loss is not None:
        chain = channel.burst_loss
        shares = (chain.good_to_bad, chain.bad_to_good, chain.loss_in_bad, chain.loss_in_good)
        words += ["loss", "gemodel", *map(_share, shares)]
    elif channel.loss:
        words += ["loss", "random", _share(channel.loss)]
    for word, share in (("duplicate", channel.duplicate), ("corrupt", channel.corrupt)):
        if share:
            words += [word, _share(share)]
    if channel.jitter_ns and not channel.jitter_reorders:
        words += ["rate", _ORDER_KEEPING]
    return words


def hits_packets(scenario: Scenario, link: Link, direction: str) -> bool:
    """Return whether packets of a direction are ever lost, doubled or damaged, one by one."""
    return any(
        channel.loss or channel.burst_loss or channel.duplicate or channel.corrupt
        for channel in _channels(scenario, link, direction)
    )


def _directions(scenario: Scenario) -> Iterator[tuple[Link, str, object]]:
    for link in scenario.topology.links:
        if link.driver == "netem":
            yield link, "forward", link.a
            yield link, "backward", link.b


def _channels(scenario: Scenario, link: Link, direction: str) -> Iterator[Channel]:
    """Yield what a direction is at the start, and after each action on it."""
    channel: Channel = getattr(link, direction)
    yield channel
    for action in scenario.timeline:
        made = is_made(scenario, action) and action.target == link.name
        if made and direction in action.directions:
            channel = changed(channel, action)
            yield channel


def _is_bent(scenario: Scenario, link: Link, direction: str) -> bool:
    return any(
        getattr(channel, name) for channel in _channels(scenario, link, direction) for name in _MADE
    )


def _not_made(channel: Channel) -> Iterator[str]:
    for what in ("trace", "reorder"):
        if getattr(channel, what):
            yield what
    if channel.jitter_ns and channel.jitter_distribution is not JitterDistribution.UNIFORM:
        yield "jitter_distribution"


def _time(nanoseconds: int) -> str:
    return f"{nanoseconds / 1000:.3f}".rstrip("0").rstrip(".") + "us"


def _share(probability: float) -> str:
    return f"{probability * 100:.6f}".rstrip("0").rstrip(".") + "%"

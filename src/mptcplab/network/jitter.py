"""How much sooner or later than after its delay a packet arrives."""

from __future__ import annotations

from random import Random

from mptcplab.network.parameters import ChannelParameters, JitterDistribution


def draw_jitter(parameters: ChannelParameters, random: Random) -> int:
    """Draw one packet's jitter, in nanoseconds."""
    jitter_ns = parameters.jitter_ns
    if parameters.jitter_distribution is JitterDistribution.NORMAL:
        return round(random.gauss(0.0, jitter_ns))
    return round(2 * jitter_ns * random.random() - jitter_ns)

"""The channels of a link: which kind of queue calls for which."""

from __future__ import annotations

from random import Random

from mptcplab.network.channel import PIECE_NS, ChannelModel
from mptcplab.network.drop_tail import DropTailChannel
from mptcplab.network.managed import Classifier, ManagedChannel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.topology import DROP_TAIL


def channel_model(
    parameters: ChannelParameters,
    random: Random,
    now_ns: int,
    classify: Classifier,
    piece_ns: int = PIECE_NS,
    jitter_random: Random | None = None,
) -> ChannelModel:
    """Return one direction of a link. Only a managed queue asks `classify` about packets."""
    if parameters.discipline == DROP_TAIL:
        return DropTailChannel(parameters, random, now_ns, piece_ns, jitter_random)
    return ManagedChannel(parameters, random, now_ns, classify, piece_ns, jitter_random)

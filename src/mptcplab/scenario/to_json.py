"""A resolved scenario as plain data, for ``run.json`` and ``--json``."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any

from mptcplab.network.impairments import CapacityTrace, JitterDistribution
from mptcplab.network.topology import InterfaceEnd, SwitchEnd
from mptcplab.scenario.model import Action

_TEXTS = (
    *(InterfaceEnd, SwitchEnd),
    *(IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network),
)


def as_plain(value: object) -> Any:
    """Return a value as JSON types: dataclasses as objects, addresses and link ends as text."""
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, CapacityTrace):
        return {
            "file": value.file,
            "sha256": value.digest,
            "steps": len(value.steps),
            "period_ns": value.period_ns,
        }
    if isinstance(value, JitterDistribution):
        return value.value
    if isinstance(value, Action):
        plain = {item.name: as_plain(getattr(value, item.name)) for item in fields(value)}
        return plain | {"changes": [[key, _single(new)] for key, new in value.changes]}
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: as_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    return value


def _single(value: object) -> object:
    """Return a new value of a link as a number or text."""
    return value if isinstance(value, int | float) else str(value)

"""An examination as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from mptcplab.hosts.examine import Examination
from mptcplab.hosts.judge import ANYWHERE


def as_json(examination: Examination) -> dict[str, Any]:
    """Return what was said, and what was read, as JSON types; addresses are texts."""
    judgement = examination.judgement
    said = _plain(judgement)
    for row in said["rows"]:
        if row["remote"] in map(str, ANYWHERE):
            row["remote"] = "any"
    facts = _plain(examination.facts)
    chains = facts.pop("chains")
    facts["filter_chains"] = None if chains is None else len(chains)
    return {
        "healthy": judgement.healthy,
        "enough": judgement.enough,
        **said,
        "fixes": _plain(judgement.fixes),
        "facts": facts,
    }


def _plain(value: object) -> Any:
    if isinstance(value, IPv4Address | IPv6Address | IPv4Network | IPv6Network):
        return str(value)
    if isinstance(value, Flag):
        return [str(flag.name).lower() for flag in type(value) if flag in value]
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.hex()
    return value

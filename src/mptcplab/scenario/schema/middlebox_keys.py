"""The keys of a middlebox, on a link or a router."""

from __future__ import annotations

from mptcplab.network.middlebox import KINDS, OPTIONS, SEGMENTS
from mptcplab.scenario.schema import value_kinds
from mptcplab.scenario.schema.parts import Key, Section

_DOC = (
    "`nat` translates addresses and ports, `firewall` lets connections begin on its side alone, "
    "`strip` removes TCP options, `drop` drops segments, `blackhole` everything; `rewrite` changes "
    "a byte of each packet, `split` cuts packets, `merge` joins them, and `randomise-sequence` "
    "shifts sequence numbers. The kind alone may take the place of the table. "
    "`docs/guides/middleboxes.md` explains them."
)

_KEYS: dict[str, Key] = {
    "kind": Key(value_kinds.choice(*KINDS), "What it does.", required=True, aliases=("type",)),
    "name": Key(
        value_kinds.TEXT,
        "What the timeline and results call it, behind the name of the link or router.",
        shown="its kind",
    ),
    "enabled": Key(
        value_kinds.BOOLEAN,
        "Whether it is switched on at the start of the run; the timeline has `enable` and "
        "`disable`.",
        True,
        aliases=("on", "active"),
    ),
    "direction": Key(
        value_kinds.choice("both", "forward", "backward"),
        "Which packets it acts on: those that leave by the link where it stands (forward), those "
        "that come in by it (backward), or both. Of `randomise-sequence`, whose sequence numbers "
        "it shifts.",
        shown='"both"',
    ),
    "options": Key(
        value_kinds.choices(*OPTIONS),
        "With `strip`, the TCP options to remove; with `drop`, of which a segment has one.",
        shown="with `drop`, any or none",
        aliases=("option", "subtypes"),
    ),
    "segments": Key(
        value_kinds.choices(*SEGMENTS),
        'With `strip` and `drop`, which segments it acts on: "ACK" is a segment without payload '
        'and other flags; "ICMP", with `drop` alone, are the ICMP errors about TCP and UDP, such '
        "as a router's that a packet is too big.",
        shown="all",
        aliases=("segment",),
    ),
    "after": Key(
        value_kinds.size(1),
        "With `strip`, `drop` and `rewrite`, how much payload of a flow passes in the same "
        "direction before it acts on that.",
        shown="0",
    ),
    "times": Key(
        value_kinds.integer(1, 10**9),
        "With `strip`, `drop` and `rewrite`, how many packets it acts on at most.",
        shown="no limit",
        aliases=("count",),
    ),
    "size": Key(
        value_kinds.size(1, 65535),
        "With `split` and `merge`, the longest payload of a packet that leaves.",
        shown="with `merge`, what always fits the link's MTU: 100 bytes less",
    ),
    "hold": Key(
        value_kinds.POSITIVE_DURATION,
        "With `merge`, how long a packet waits for the next.",
        shown='"1ms"',
    ),
    "blind": Key(
        value_kinds.BOOLEAN,
        "With `merge`, whether packets are joined though their TCP options or acknowledgments "
        "differ; those of the first are kept, and data lose their mapping.",
        shown="false",
    ),
    "timeout": Key(
        value_kinds.POSITIVE_DURATION,
        "With `nat` and `firewall`, how long an idle TCP connection is remembered.",
        shown='"7440s" (RFC 5382); at most 240 s of it while it opens or closes',
    ),
    "udp_timeout": Key(
        value_kinds.POSITIVE_DURATION,
        "With `nat` and `firewall`, the same of UDP.",
        shown='"300s" (RFC 4787)',
    ),
    "address": Key(
        value_kinds.IPV4_ADDRESS,
        "With `nat`, the address that it shows, of the link's subnet.",
        shown="the router's own; at a host, the last free one of the subnet",
        aliases=("outside_address", "public"),
    ),
}

MIDDLEBOX = Section("links.NAME.middleboxes", f"Middleboxes of a link: {_DOC}", dict(_KEYS))

ROUTER_MIDDLEBOX = Section(
    "routers.NAME.middleboxes",
    "Middleboxes of a router, with the keys of a link's: they stand where its `outside` link "
    "begins.",
    {
        **_KEYS,
        "outside": Key(
            value_kinds.NAMES,
            "The link that leads outside; of several, each has boxes of its own.",
            shown="the router's link to another router, where there is one",
            aliases=("link", "wan"),
        ),
    },
)

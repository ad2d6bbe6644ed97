"""Every key of a scenario file, declared once.

Validation, error messages, ``docs/reference/scenario.md`` and the JSON Schema all come from
these tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mptcplab.scenario.schema import value_kinds
from mptcplab.scenario.schema.parts import Key, Rows, Rule, Section, Settings, Table, Tables

SYSCTL_NAME = (
    r"net\.(ipv4|ipv6|mptcp)\.[a-z0-9_.]+|net\.core\.(somaxconn|optmem_max|txrehash|xfrm_[a-z_]+)"
)
CONGESTION = (
    *("cubic", "reno", "bbr", "dctcp", "vegas", "westwood", "htcp", "illinois", "bic", "hybla"),
    *("highspeed", "scalable", "veno", "yeah", "nv", "lp", "cdg"),
    *("lia", "olia", "balia", "wvegas", "cubic-hystart", "olia-linux"),
)
COUPLED = ("lia", "olia", "olia-linux", "balia", "wvegas")
SIMULATED_CONGESTION = (*COUPLED, "cubic-hystart")

TUNABLES = Section(
    "tunables",
    "What the report set with sysctl, and what today's kernels add, for all hosts.",
    {
        "enabled": Key(
            value_kinds.BOOLEAN, "Whether MPTCP is used; off, a flow is plain TCP.", True
        ),
        "checksum": Key(value_kinds.BOOLEAN, "The DSS checksum (RFC 8684 section 3.3.1).", False),
        "mss": Key(
            value_kinds.integer(88, 65495),
            "Value of the MSS option (RFC 9293 section 3.7.1); TCP's own options come out of it.",
            shown="from the MTU",
        ),
        "ndiffports": Key(
            value_kinds.integer(0, 9),
            "1 makes a full mesh of the addresses, 0 leaves the initial subflow alone, "
            "n opens n subflows on the initial address pair.",
            1,
        ),
        "debug": Key(value_kinds.BOOLEAN, "Write what the stack does to the run's log.", False),
        "path_manager": Key(
            value_kinds.choice("link-aware", "kernel", classes=True),
            '"kernel" knows nothing of link state, as upstream; "link-aware" opens a subflow anew '
            "when its link returns.",
            "link-aware",
        ),
        "scheduler": Key(
            value_kinds.choice(
                "default",
                "lowest-rtt",
                "lowest-rtt-m1",
                "lowest-rtt-plain",
                "linux-default",
                "2012",
                "round-robin",
                "redundant",
                "blest",
                "ecf",
                classes=True,
            ),
            'Which subflow carries the next data. "default" is what each stack has: the kernel its '
            'own, which ours calls "linux-default", and ours "lowest-rtt" with the two cures for '
            "small buffers of NSDI 2012, retransmission and penalisation; of these "
            '"lowest-rtt-m1" has the first and "lowest-rtt-plain" none. "2012" counts in '
            "simulation alone, where round trips below a tick of 4 ms are equal to it, as Linux "
            "3.2 measured them. Upstream kernels have their default only.",
            "default",
        ),
        "receive_buffer_max": Key(
            value_kinds.size(4096, 2**31 - 1),
            "What receive buffer autotuning may reach (tcp_rmem).",
            shown="the stack's own",
            aliases=("rmem_max", "tcp_rmem", "rmem"),
        ),
        "send_buffer_max": Key(
            value_kinds.size(4096, 2**31 - 1),
            "What send buffer autotuning may reach (tcp_wmem).",
            shown="the stack's own",
            aliases=("wmem_max", "tcp_wmem", "wmem"),
        ),
        "tcp_rto_max_ms": Key(
            value_kinds.integer(1000, 120_000),
            "Upper bound of the retransmission timeout, in ms (Linux 6.15 and later).",
            shown="the stack's own",
            aliases=("rto_max", "rto_max_ms"),
        ),
        "tcp_retries2": Key(
            value_kinds.integer(1, 255),
            "Timeouts before a connection or subflow is given up.",
            shown="the stack's own",
            aliases=("retries2",),
        ),
        "stale_loss_cnt": Key(
            value_kinds.integer(0, 255),
            "MPTCP-level timeouts without progress before a subflow is stale; 0 is never.",
            shown="the stack's own",
        ),
        "close_timeout": Key(
            value_kinds.DURATION,
            "How long a connection lives without any subflow; whole seconds.",
            shown="the stack's own",
        ),
        "add_addr_timeout": Key(
            value_kinds.DURATION,
            "The longest wait for an ADD_ADDR's echo before it is sent again (the retransmission "
            "timeout, doubled each time, where that is less); whole seconds.",
            shown="the stack's own",
        ),
        "sysctls": Key(
            Settings(value_kinds.SYSCTL, SYSCTL_NAME),
            'Any further sysctl of a network namespace, as `"net.ipv4.tcp_sack" = 0`; kernel '
            "hosts only.",
        ),
    },
)

HOST_TUNABLES = Section(
    "hosts.NAME.tunables",
    "The tunables of one host, where they differ from those of all.",
    {
        name: replace(key, default=None, shown="as in `tunables`")
        for name, key in TUNABLES.keys.items()
    },
)

NIC = Section(
    "hosts.NAME.nics",
    'The NICs of a host, for those whose rate matters: `nics = { eth8 = "10Gb/s" }`.',
    {
        "rate": Key(
            value_kinds.RATE,
            "What all VLANs of the NIC share, each way.",
            shown="unlimited",
            aliases=("speed", "bandwidth"),
        )
    },
)

INTERFACE = Section(
    "hosts.NAME.interfaces",
    "The interfaces of a host; an address or a list of them may stand for the table: "
    '`"eth8.520" = "192.168.21.1/24"`. `eth8.520` is VLAN 520 on NIC eth8, `eth0` the NIC itself.',
    {
        "addresses": Key(
            value_kinds.ADDRESSES,
            "IPv4 and IPv6 addresses with prefix length.",
            (),
            "derived",
            aliases=("address", "ip"),
        ),
        "nic": Key(value_kinds.TEXT, "The NIC it belongs to.", shown="from the name"),
        "vlan": Key(value_kinds.integer(1, 4094), "VLAN id (IEEE 802.1Q).", shown="from the name"),
        "mtu": Key(
            value_kinds.integer(576, 65535), "Largest IP packet, bytes.", shown="the link's"
        ),
        "multipath": Key(
            value_kinds.BOOLEAN, "Off keeps the interface out of MPTCP (`multipath off`).", True
        ),
    },
)

HOST = Section(
    "hosts",
    'The hosts, as tables or, where nothing is to be said of them, as `hosts = ["alice", "bob"]`. '
    "NICs, interfaces and addresses that are not given are derived.",
    {
        "stack": Key(
            value_kinds.choice("kernel", "ours"),
            "Whose TCP the host runs on the Linux testbed: its kernel's, or ours on a TUN device, "
            "which may talk to the kernel's. Simulated hosts run ours, whatever stands here.",
            "kernel",
        ),
        "cpu": Key(
            value_kinds.choice("none", "2012", "modern"),
            "Cost of packets on a simulated host's CPU: none, the report's machines, today's. "
            "The Linux testbed has the CPU it has.",
            "none",
        ),
        "nics": Key(
            Tables(NIC, "NIC", value_kinds.INTERFACE_NAME, shorthand="rate"), "NICs by name."
        ),
        "interfaces": Key(
            Tables(INTERFACE, "interface", value_kinds.INTERFACE_NAME, shorthand="addresses"),
            "Interfaces by name.",
        ),
        "tunables": Key(Table(HOST_TUNABLES), "Tunables of this host alone."),
    },
)

SWITCH = Section(
    "switches",
    "Learning Ethernet switches (one VLAN's worth of switch: a broadcast domain).",
    {
        "ports": Key(
            value_kinds.NAMES,
            'Interfaces plugged straight in ("host:interface"), at their NIC\'s rate, no delay. '
            "Links with an end at the switch need not stand here.",
            (),
            "none",
        )
    },
)

_CHANNEL: dict[str, Key] = {
    "rate": Key(
        value_kinds.RATE,
        "Capacity of each direction; counts frames as tc does, with Ethernet header and VLAN tag.",
        shown="unlimited",
        aliases=("bandwidth", "speed", "capacity"),
    ),
    "delay": Key(
        value_kinds.DURATION, "One way, each direction.", shown="none", aliases=("latency", "owd")
    ),
    "jitter": Key(
        value_kinds.DURATION,
        "The delay varies uniformly by up to this much; frames stay in order.",
        0,
        "none",
    ),
    "loss": Key(value_kinds.FRACTION, "Probability of loss for each packet.", 0.0, "none"),
    "queue": Key(
        value_kinds.QUEUE,
        "Limit in packets, bytes, time at the link's rate, or BDP (rate times the link's "
        "RTT); a list of one in packets and one other: whichever is reached first.",
        shown="the larger of 1 BDP and 100 full frames",
        aliases=("buffer", "limit", "queue_size", "qlen"),
    ),
    "discipline": Key(
        value_kinds.choice("drop-tail", "red"),
        "What the queue drops: what finds it full, or at random before (random early detection, "
        "gentle, from a sixth of the limit on).",
        "drop-tail",
        aliases=("qdisc", "queue_discipline", "aqm"),
    ),
    "overhead": Key(
        value_kinds.integer(0, 256),
        "Bytes charged for each frame beyond its header; 24 is Ethernet's preamble, FCS and gap.",
        0,
    ),
}

DIRECTION = Section(
    "links.NAME.forward",
    "What differs in one direction: `[links.NAME.forward]` is from the first end to the second, "
    "`[links.NAME.backward]` from the second to the first.",
    {name: replace(key, default=None, shown="as the link's") for name, key in _CHANNEL.items()},
)

LINK = Section(
    "links",
    "Emulated wires. With `topology` given, a table here changes that topology's link of the name, "
    "or adds one.",
    {
        "between": Key(
            value_kinds.BETWEEN,
            "The two ends: a host (its next free interface), `host:interface`, or a switch.",
            required=True,
            aliases=("ends", "from", "to", "nodes", "endpoints"),
        ),
        **_CHANNEL,
        "rtt": Key(
            value_kinds.DURATION,
            "Round trip: half of it is the delay of each direction. Instead of `delay`.",
            shown="none",
        ),
        "mtu": Key(value_kinds.integer(576, 65535), "Largest IP packet, bytes.", 1500),
        "up": Key(value_kinds.BOOLEAN, "State at the start of the run.", True),
        "families": Key(
            value_kinds.FAMILIES, "Address families to derive on this link.", shown="the scenario's"
        ),
        "driver": Key(
            value_kinds.choice("auto", "kernel", "netem", "tap"),
            "What emulates it on the Linux testbed: kernel shaping without delay, netem, or our "
            "TAP emulator.",
            "auto",
        ),
        "environment": Key(
            value_kinds.choice("", "lan", "wan", "man"),
            "The report's grouping.",
            "",
            "none",
            aliases=("env",),
        ),
        "forward": Key(Table(DIRECTION), "What differs from first to second end."),
        "backward": Key(Table(DIRECTION), "What differs from second to first end."),
    },
    (Rule(("delay", "rtt"), 0, 1),),
)

FLOW = Section(
    "flows",
    "Data from one host to another.",
    {
        "from": Key(
            value_kinds.TEXT, "The sending host.", required=True, aliases=("source", "src")
        ),
        "to": Key(
            value_kinds.TEXT, "The receiving host.", required=True, aliases=("destination", "dst")
        ),
        "protocol": Key(
            value_kinds.choice("mptcp", "tcp"), "Protocol.", shown='"mptcp"; "tcp" where striped'
        ),
        "application": Key(
            value_kinds.choice("bulk", "iperf3", "striped"),
            '"bulk" sends without end, or `size` bytes; "iperf3" is that program; '
            '"striped" is one file over parallel TCP connections spread over the links, as '
            "GridFTP does.",
            "bulk",
            aliases=("app",),
        ),
        "connections": Key(
            value_kinds.integer(1, 128),
            "Parallel connections.",
            1,
            aliases=("sessions", "parallel"),
        ),
        "start": Key(value_kinds.DURATION, "When it starts.", 0, "0"),
        "stop": Key(value_kinds.POSITIVE_DURATION, "When it stops.", shown="at the end"),
        "size": Key(value_kinds.size(1), "Bytes after which it is done.", shown="without end"),
        "buffer": Key(
            value_kinds.size(4096, 2**31 - 1),
            "Send and receive buffer of the sockets: what getsockopt returns. (`iperf -w` asks for "
            "half of what the kernel then gives.)",
            shown="autotuned",
            aliases=("window", "socket_buffer", "w"),
        ),
        "send_buffer": Key(
            value_kinds.size(4096, 2**31 - 1),
            "Send buffer alone.",
            shown="as `buffer`",
            aliases=("sndbuf",),
        ),
        "receive_buffer": Key(
            value_kinds.size(4096, 2**31 - 1),
            "Receive buffer alone.",
            shown="as `buffer`",
            aliases=("rcvbuf",),
        ),
        "write_size": Key(
            value_kinds.size(1, 2**30),
            "Bytes of one write (`iperf -l`).",
            65536,
            '"64KiB"',
            aliases=("length", "block_size"),
        ),
        "congestion": Key(
            value_kinds.choice(*CONGESTION, classes=True),
            "Congestion control of each subflow; lia, olia, balia and wvegas couple them, which "
            "upstream kernels cannot. Simulation has these, reno, cubic, cubic-hystart and "
            "olia-linux.",
            "cubic",
            aliases=("congestion_control", "cc"),
        ),
        "links": Key(
            value_kinds.NAMES,
            "The links it may use; the first carries the initial subflow.",
            shown="all that join the hosts",
            aliases=("paths", "via", "use"),
        ),
        "client": Key(
            value_kinds.TEXT, "Which of the two hosts opens the connection.", shown="`from`"
        ),
        "family": Key(
            value_kinds.choice("ipv4", "ipv6"),
            "Address family of the initial subflow.",
            shown="the first path's",
        ),
        "verify": Key(
            value_kinds.BOOLEAN,
            "Compare every byte at the receiver with what was sent. In simulation payload is a "
            "length, and lengths are compared in any case.",
            shown="true; false for iperf3",
            aliases=("check",),
        ),
    },
)

ACTION = Section(
    "timeline",
    "What happens when. One entry may hold several of `up`, `down`, `change`, `start` and `stop`; "
    "`rate`, `delay`, `rtt`, `jitter` and `loss` say what `change` sets.",
    {
        "at": Key(
            value_kinds.DURATION,
            "When, from the start of the run.",
            required=True,
            aliases=("time", "t"),
        ),
        "up": Key(value_kinds.NAMES, "Links, or NICs as `host:nic` with all their VLANs."),
        "down": Key(value_kinds.NAMES, "Links, or NICs as `host:nic` with all their VLANs."),
        "change": Key(value_kinds.NAMES, "Links to change.", aliases=("set", "modify")),
        "start": Key(value_kinds.NAMES, "Flows to start."),
        "stop": Key(value_kinds.NAMES, "Flows to stop."),
        "rate": Key(value_kinds.RATE, "New rate."),
        "delay": Key(value_kinds.DURATION, "New delay, one way."),
        "rtt": Key(value_kinds.DURATION, "New round trip, half of it each way."),
        "jitter": Key(value_kinds.DURATION, "New jitter."),
        "loss": Key(value_kinds.FRACTION, "New loss."),
        "direction": Key(
            value_kinds.choice("both", "forward", "backward"),
            "Direction that `change` sets.",
            "both",
        ),
        "label": Key(value_kinds.TEXT, "What figures print.", "", "made from the action"),
    },
    (Rule(("up", "down", "change", "start", "stop"), 1, 5), Rule(("delay", "rtt"), 0, 1)),
)

_OF = Key(value_kinds.TEXT, '"total", a flow or a link.', "total")
_STAGE = Key(
    value_kinds.integer(0, 1000),
    "Stretch between timeline actions, from 0.",
    shown="the whole run",
)

EXPECT = Section(
    "expect",
    "What the verdict holds the run against.",
    {
        "goodput": Key(value_kinds.RATE, "Expected goodput.", aliases=("value", "rate")),
        "tolerance": Key(value_kinds.FRACTION, "How far off it may be.", 0.05, '"5%"'),
        "at_least": Key(
            value_kinds.RATE, "Goodput to reach; instead of `goodput`.", aliases=("minimum", "min")
        ),
        "stage": _STAGE,
        "of": _OF,
        "settle": Key(
            value_kinds.DURATION,
            "How long after the stage's start to begin measuring. A stage that leaves less than "
            "two intervals after it is too short to judge.",
            0,
            "0",
        ),
        "source": Key(value_kinds.TEXT, "Why this value.", "", "none"),
    },
    (Rule(("goodput", "at_least"), 1, 1),),
)

MEASURED = Section(
    "report.measured",
    "Values that the 2012 report gives.",
    {
        "value": Key(value_kinds.RATE, "The rate measured.", required=True, aliases=("goodput",)),
        "source": Key(value_kinds.TEXT, "Section, figure or table.", required=True),
        "stage": _STAGE,
        "of": _OF,
        "note": Key(value_kinds.TEXT, "What to know about it.", "", "none"),
    },
)

REPORT = Section(
    "report",
    "What the 2012 report says of the experiment.",
    {
        "section": Key(value_kinds.TEXT, "Its section.", "", "none"),
        "figures": Key(value_kinds.FIGURES, "Its figures.", (), "none"),
        "summary": Key(value_kinds.TEXT, "What it found, in a sentence or two.", "", "none"),
        "measured": Key(Rows(MEASURED), "Values it gives."),
    },
)

POINT = Section(
    "sweep.points",
    "One run of a sweep.",
    {
        "label": Key(value_kinds.TEXT, "Its name in tables and figures.", required=True),
        "set": Key(value_kinds.STRINGS, "What differs, as `--set` takes it.", required=True),
        "x": Key(value_kinds.NUMBER, "Its place on the axis.", shown="its position"),
        "figures": Key(
            value_kinds.FIGURES, "The report's figures of this point over time.", (), "none"
        ),
        "measured": Key(Rows(MEASURED), "What the report measured at this point."),
    },
)

SWEEP = Section(
    "sweep",
    "Variants of the scenario that belong in one figure; a plain run ignores them.",
    {
        "axis": Key(value_kinds.TEXT, "What the axis shows, with its unit.", "", "none"),
        "figures": Key(value_kinds.FIGURES, "The report's figures of the whole sweep.", (), "none"),
        "points": Key(Rows(POINT), "The variants.", required=True),
    },
)

_NETWORK: dict[str, Key] = {
    "title": Key(value_kinds.TEXT, "One line on what it is.", "", "none"),
    "families": Key(
        value_kinds.FAMILIES,
        "Address families every interface gets; families it has no address of are derived.",
        shown='"ipv4" where an interface has none',
        aliases=("family",),
    ),
    "hosts": Key(Tables(HOST, "host", listed=True), "The hosts."),
    "switches": Key(Tables(SWITCH, "switch", listed=True), "Switches."),
    "links": Key(Tables(LINK, "link"), "The links."),
}

TOPOLOGY = Section(
    "topology file", "A network that scenarios refer to by `topology`.", dict(_NETWORK)
)

SCENARIO = Section(
    "scenario file",
    "One experiment: a network, what flows over it and what happens to it.",
    {
        "title": _NETWORK["title"],
        "question": Key(value_kinds.TEXT, "The question that the run answers.", "", "none"),
        "duration": Key(
            value_kinds.POSITIVE_DURATION,
            "How long the run lasts.",
            shown="until the last flow stops, where each has a `stop`",
            aliases=("time", "length"),
        ),
        "interval": Key(
            value_kinds.POSITIVE_DURATION,
            "Time between samples, 10 ms at least. A run made shorter takes samples as often as "
            "gives its shortest stage ten, unless `--interval` says otherwise.",
            1_000_000_000,
            '"1s"',
        ),
        "seed": Key(value_kinds.integer(0, 2**63 - 1), "Of everything random.", 1),
        "repetitions": Key(
            value_kinds.integer(1, 1000),
            "Runs that a comparison makes, each with the next seed.",
            1,
        ),
        "captures": Key(
            value_kinds.NAMES,
            'Interfaces to capture on, as "host:interface".',
            (),
            "none",
            aliases=("capture",),
        ),
        "snaplen": Key(value_kinds.size(64, 262_144), "Bytes kept of each captured packet.", 128),
        "topology": Key(
            value_kinds.TEXT,
            'The network: "report" (the 2012 testbed) or a topology file, relative to this file.',
            shown="this file's hosts and links alone",
        ),
        "use": Key(
            value_kinds.NAMES,
            "The links to build, of all that topology and file declare.",
            shown="all",
            aliases=("use_links",),
        ),
        "families": _NETWORK["families"],
        "hosts": _NETWORK["hosts"],
        "switches": _NETWORK["switches"],
        "links": _NETWORK["links"],
        "tunables": Key(Table(TUNABLES), "Tunables of all hosts."),
        "flows": Key(Tables(FLOW, "flow"), "The traffic."),
        "timeline": Key(Rows(ACTION), "What happens when."),
        "expect": Key(Rows(EXPECT), "What the verdict holds the run against."),
        "report": Key(Table(REPORT), "What the 2012 report measured."),
        "sweep": Key(Table(SWEEP), "Variants for one figure."),
    },
)


def sections() -> Iterator[Section]:
    """Yield every section of a scenario file, each once, outer ones first."""
    seen: list[str] = []
    waiting = [SCENARIO]
    while waiting:
        section = waiting.pop(0)
        if section.name in seen:
            continue
        seen.append(section.name)
        yield section
        waiting += [
            key.kind.section
            for key in section.keys.values()
            if isinstance(key.kind, Table | Tables | Rows)
        ]

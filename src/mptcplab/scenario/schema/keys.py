"""Every key of a scenario file, declared once.

Validation, error messages, ``docs/reference/scenario.md`` and the JSON Schema all come from
these tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mptcplab.network.impairments import JitterDistribution
from mptcplab.network.topology import DISCIPLINES
from mptcplab.scenario.repetition import DEFAULT_START_JITTER_NS
from mptcplab.scenario.schema import value_kinds
from mptcplab.scenario.schema.middlebox_keys import MIDDLEBOX, ROUTER_MIDDLEBOX
from mptcplab.scenario.schema.parts import Key, Rows, Rule, Section, Settings, Table, Tables

SYSCTL_NAME = (
    r"net\.(ipv4|ipv6|mptcp)\.[a-z0-9_.]+|net\.core\.(somaxconn|optmem_max|txrehash|xfrm_[a-z_]+)"
)
CONGESTION = (
    *("cubic", "reno", "bbr", "dctcp", "vegas", "westwood", "htcp", "illinois", "bic", "hybla"),
    *("highspeed", "scalable", "veno", "yeah", "nv", "lp", "cdg"),
    *("lia", "olia", "balia", "wvegas", "cubic-hystart", "cubic-rfc9438", "olia-draft"),
)
COUPLED = ("lia", "olia", "olia-draft", "balia", "wvegas")
KERNEL_COUPLED = ("lia", "olia", "balia")
"""Those that the Linux testbed brings to its kernel, by BPF."""
SCTP_CONGESTION = ("reno", "highspeed", "htcp", "lia")
"""Those of libusrsctp."""
SIMULATED_CONGESTION = ("olia-draft", "wvegas", "cubic-hystart", "cubic-rfc9438")
"""Those of our own stack alone."""

FABRICS = ("bridge", "openvswitch")
"""Kinds of switches."""

TUNABLES = Section(
    "tunables",
    "Settings of the TCP and MPTCP stack, for all hosts: those that the report set with sysctl, "
    "and some that kernels have gained since.",
    {
        "enabled": Key(
            value_kinds.BOOLEAN, "Whether MPTCP is used; without it, flows are plain TCP.", True
        ),
        "version": Key(
            value_kinds.integer(0, 1),
            "MPTCP version: 1 is RFC 8684; 0 is RFC 6824, which the report's kernel spoke as a "
            "draft. Version 0 is for simulation and hosts with our stack; kernels of today have "
            "version 1 alone.",
            1,
        ),
        "checksum": Key(value_kinds.BOOLEAN, "DSS checksums (RFC 8684 section 3.3.1).", False),
        "mss": Key(
            value_kinds.integer(88, 65495),
            "Value of the MSS option (RFC 9293 section 3.7.1). TCP options take their space from "
            "it.",
            shown="from the MTU",
        ),
        "ndiffports": Key(
            value_kinds.integer(0, 9),
            "Subflows on the initial pair of addresses, where it is 2 or more; 1 is a full mesh "
            "of the addresses, 0 the initial subflow alone.",
            1,
        ),
        "debug": Key(
            value_kinds.BOOLEAN,
            "Write `debug.log` into the run's folder, as the report's `mptcp_debug` made the "
            "kernel log: connections with their tokens, subflows as they come and go and how many "
            "there are, by stage (section 3.5).",
            False,
        ),
        "path_manager": Key(
            value_kinds.choice("link-aware", "kernel", classes=True),
            '"link-aware" opens a subflow again when its link comes back; "kernel" does not follow '
            "the state of links, as upstream.",
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
                "own-windows",
                classes=True,
                more=value_kinds.KERNEL_SCHEDULER,
            ),
            "Which subflow carries the next data. \"default\" is each stack's own: the kernel's, "
            'which is "linux-default" in our stack, and "lowest-rtt" in ours. The other names are '
            'of our stack alone (simulation, and hosts with `stack = "ours"`); the Linux testbed '
            "has those that its kernel lists in `net.mptcp.available_schedulers`, of which "
            'upstream kernels have "default" alone. '
            '"lowest-rtt" has opportunistic retransmission and penalisation, the two mechanisms '
            'of NSDI 2012 for small receive buffers; "lowest-rtt-m1" has the first alone, '
            '"lowest-rtt-plain" neither. "2012" is the latter, with round trips shorter than a '
            "tick of 4 ms counted as a tick, as Linux 3.2 measured them; it has an effect in "
            'simulation alone. "own-windows" has a fault that the sender of experiment B may have '
            "had in 2012: it holds each subflow to a window of its own once a link has returned.",
            "default",
        ),
        "receive_buffer_max": Key(
            value_kinds.size(4096, 2**31 - 1),
            "Largest receive buffer that autotuning may choose (third value of tcp_rmem).",
            shown="the stack's own",
            aliases=("rmem_max", "tcp_rmem", "rmem"),
        ),
        "send_buffer_max": Key(
            value_kinds.size(4096, 2**31 - 1),
            "Largest send buffer that autotuning may choose (third value of tcp_wmem).",
            shown="the stack's own",
            aliases=("wmem_max", "tcp_wmem", "wmem"),
        ),
        "tcp_rto_max_ms": Key(
            value_kinds.integer(1000, 120_000),
            "Largest retransmission timeout, in ms (Linux 6.15 and later).",
            shown="the stack's own",
            aliases=("rto_max", "rto_max_ms"),
        ),
        "tcp_retries2": Key(
            value_kinds.integer(1, 255),
            "Retransmission timeouts in a row after which a subflow or TCP connection is closed.",
            shown="the stack's own",
            aliases=("retries2",),
        ),
        "ecn": Key(
            value_kinds.BOOLEAN,
            "Whether to ask for ECN (true) or refuse it (false); a managed queue then marks "
            "packets in place of dropping them.",
            shown="granted to who asks",
            aliases=("tcp_ecn",),
        ),
        "stale_loss_cnt": Key(
            value_kinds.integer(0, 255),
            "Timeouts without progress after which a subflow is stale, so that the scheduler "
            "avoids it; 0: never. The kernel counts MPTCP-level timeouts, our stack the subflow's "
            "own.",
            shown="the stack's own",
        ),
        "close_timeout": Key(
            value_kinds.DURATION,
            "How long a connection without subflows waits for a new one before it ends; whole "
            "seconds.",
            shown="the stack's own",
        ),
        "add_addr_timeout": Key(
            value_kinds.DURATION,
            "Longest wait for the echo of an ADD_ADDR before it is sent again: the wait is this "
            "or the retransmission timeout, whichever is less, doubled each time (before Linux "
            "6.18, always this); 0: never again. Whole seconds.",
            shown="the stack's own",
        ),
        "sysctls": Key(
            Settings(value_kinds.SYSCTL, SYSCTL_NAME),
            'Other sysctls of a network namespace, such as `"net.ipv4.tcp_sack" = 0`. For hosts '
            "with the kernel's stack.",
        ),
    },
)

HOST_TUNABLES = Section(
    "hosts.NAME.tunables",
    "Tunables of one host that differ from those of all hosts.",
    {
        name: replace(key, default=None, shown="as in `tunables`")
        for name, key in TUNABLES.keys.items()
    },
)

NIC = Section(
    "hosts.NAME.nics",
    'NICs whose own rate is a limit: `nics = { eth8 = "10Gb/s" }`.',
    {
        "rate": Key(
            value_kinds.RATE,
            "Rate that all VLANs of the NIC share, in each direction.",
            shown="unlimited",
            aliases=("speed", "bandwidth"),
        )
    },
)

INTERFACE = Section(
    "hosts.NAME.interfaces",
    "The interfaces of a host. An address, or a list of addresses, may take the place of the "
    'table: `"eth8.520" = "192.168.21.1/24"`. `eth8.520` is VLAN 520 on NIC eth8; `eth0` is NIC '
    "eth0 without a VLAN.",
    {
        "addresses": Key(
            value_kinds.ADDRESSES,
            "IPv4 and IPv6 addresses with prefix length.",
            (),
            "derived",
            aliases=("address", "ip"),
        ),
        "nic": Key(value_kinds.TEXT, "The NIC that carries it.", shown="from the name"),
        "vlan": Key(value_kinds.integer(1, 4094), "VLAN ID (IEEE 802.1Q).", shown="from the name"),
        "mtu": Key(
            value_kinds.integer(576, 65535), "Largest IP packet, in bytes.", shown="the link's"
        ),
        "multipath": Key(
            value_kinds.BOOLEAN, "Whether MPTCP may use it (false: `multipath off` in 2012).", True
        ),
        "backup": Key(
            value_kinds.BOOLEAN,
            "Whether subflows from it are backups, which carry data only while no regular one "
            "works (RFC 8684 section 3.3.8).",
            shown="the link's",
        ),
    },
)

ENDPOINT = Section(
    "hosts.NAME.endpoints",
    "The endpoints of a host's path manager, as `ip mptcp endpoint` has them, in the place of "
    "those that follow from the flows: tables by interface (one endpoint for each address) or "
    "address, in the order in which they are used. The kernel's path manager gets exactly these, "
    "and that of mptcplab's stack does the same. A host without any, in a scenario where others "
    "have some, announces its further addresses to its clients, and joins those that are announced "
    "to it from the address that routing chooses.",
    {
        "subflow": Key(
            value_kinds.BOOLEAN, "Open a subflow from it to the peer's initial address.", False
        ),
        "signal": Key(value_kinds.BOOLEAN, "Announce it to the peer (ADD_ADDR).", False),
        "backup": Key(
            value_kinds.BOOLEAN,
            "Subflows from it are backups; with no other flag, those that are opened from it by "
            "routing or by the peer.",
            shown="the interface's",
        ),
        "fullmesh": Key(
            value_kinds.BOOLEAN,
            "Open subflows from it to all addresses of the peer; not together with `signal`.",
            False,
        ),
        "laminar": Key(
            value_kinds.BOOLEAN,
            "Open one subflow from it, to an address that the peer announces (Linux 6.18).",
            False,
        ),
        "port": Key(
            value_kinds.integer(1, 65535),
            "The port to announce with it, on which the host listens; with `signal` alone.",
            shown="none",
        ),
    },
)

LIMITS = Section(
    "hosts.NAME.limits",
    "What a connection of the host may have, as `ip mptcp limits` has it; Linux up to 6.18 takes 8 "
    "of each at most.",
    {
        "subflows": Key(
            value_kinds.integer(0, 8),
            "Subflows beside the initial one, whoever opens them. Linux 6.18 may open one more, "
            "where an address is announced to it before it has opened its own.",
            8,
        ),
        "add_addr_accepted": Key(
            value_kinds.integer(0, 8),
            "Addresses of the peer's announcements that are used.",
            8,
            aliases=("add_addr_accept", "addresses"),
        ),
    },
)

HOST = Section(
    "hosts",
    'The hosts: tables, or a list of names such as `hosts = ["alice", "bob"]`. NICs, interfaces '
    "and addresses that are not given are derived.",
    {
        "stack": Key(
            value_kinds.choice("kernel", "ours"),
            "Which TCP stack the host uses on the Linux testbed: the kernel's, or mptcplab's over "
            "a TUN device. The two work together. Simulated hosts always use mptcplab's.",
            "kernel",
        ),
        "cpu": Key(
            value_kinds.choice("none", "2012", "modern"),
            "CPU cost of packets on a simulated host: none, that of the report's machines, or "
            "that of current ones. The Linux testbed ignores it.",
            "none",
        ),
        "offload": Key(
            value_kinds.BOOLEAN,
            "Whether the host hands segments of up to 64 KiB to its interface and takes such from "
            "it (TSO, GSO and GRO), as hosts usually do; `false` makes it send, receive and "
            "acknowledge packet by packet, as packet-level simulators do.",
            True,
        ),
        "count": Key(
            value_kinds.integer(1, 1000),
            "How many hosts it stands for: `client` with `count = 8` is client1 to client8. Links "
            "and flows are made for each of them by `for`.",
            shown="one, of that name",
        ),
        "ssh": Key(
            value_kinds.TEXT,
            'Where the host is when it is a real machine (`--on hosts`): "user@address", with '
            '":port" where it is not 22. Other testbeds ignore it.',
            shown="none",
        ),
        "nics": Key(
            Tables(NIC, "NIC", value_kinds.INTERFACE_NAME, shorthand="rate"), "NICs by name."
        ),
        "interfaces": Key(
            Tables(INTERFACE, "interface", value_kinds.INTERFACE_NAME, shorthand="addresses"),
            "Interfaces by name.",
        ),
        "routes": Key(
            Settings(value_kinds.HOPS, value_kinds.DESTINATION),
            'Explicit routes: `routes = { server = "r2" }`. To "default", a subnet or a host, by a '
            "router that the host shares a link or switch with, or by the link to it; by "
            '"unreachable" there is none. It counts for the addresses whose interface leads there. '
            "What no route covers goes to the nearest router.",
        ),
        "endpoints": Key(
            Tables(ENDPOINT, "host's interface", value_kinds.ENDPOINT_NAME),
            "Endpoints by interface or address.",
        ),
        "limits": Key(Table(LIMITS), "Limits of the path manager."),
        "tunables": Key(Table(HOST_TUNABLES), "Tunables of this host alone."),
    },
)

ROUTER_INTERFACE = Section(
    "routers.NAME.interfaces",
    "The interfaces of a router, where they are to have addresses or MTUs of their own. An "
    "address, or a list of addresses, may take the place of the table.",
    {
        "addresses": INTERFACE.keys["addresses"],
        "mtu": INTERFACE.keys["mtu"],
    },
)

ROUTER = Section(
    "routers",
    'Machines that forward: tables, or a list of names such as `routers = ["r1", "r2"]`. Links end '
    "at them as at hosts, and each link, or group of links that switches join, is a subnet. "
    "Packets take the way of fewest links to the subnet of their destination; routes are static, "
    "and stay as they are when links fail. Forwarding costs nothing and takes no time.",
    {
        "ecmp": Key(
            value_kinds.choice("addresses", "ports"),
            "What chooses among several next hops that are as near: a hash of the two addresses, "
            'or with "ports" of the ports as well, so that subflows on one pair of addresses '
            "(`ndiffports`) take several ways. It is Linux's hash, seeded by the scenario's `seed` "
            "and the router's name: on both testbeds the same addresses and ports take the same "
            "way (on Linux 6.11 and later).",
            "addresses",
        ),
        "interfaces": Key(
            Tables(
                ROUTER_INTERFACE, "interface", value_kinds.INTERFACE_NAME, shorthand="addresses"
            ),
            "Interfaces by name.",
        ),
        "routes": Key(
            Settings(value_kinds.HOPS, value_kinds.DESTINATION),
            'Explicit routes, which count before the shortest ways: `routes = { "10.0.3.0/24" = '
            '["r2", "r3"] }`. To "default", a subnet or a host, by neighbouring routers or links '
            'to them, several of which share the flows as `ecmp` says; by "unreachable" packets '
            "are refused. Of several, that with the longest prefix counts.",
        ),
        "middleboxes": Key(
            Rows(ROUTER_MIDDLEBOX, "kind"),
            'Middleboxes where the router\'s `outside` link begins: `middleboxes = ["nat"]` hides '
            "the hosts behind it.",
            shown="none",
            aliases=("middlebox", "boxes"),
        ),
    },
)

SWITCH = Section(
    "switches",
    "Ethernet switches, each one broadcast domain (one VLAN of a real switch). Between "
    "two interfaces, frames take the fewest links. Where several ways between bridges have as few, "
    "each pair of addresses has one of them for good, both ways: the pairs of two hosts take them "
    "in turn, from one that the hosts' names decide (as ECMP by addresses does). In simulation "
    "only: bridges would loop. Subflows on one pair (`ndiffports`) share its way, unless `fabric` "
    "spreads them.",
    {
        "fabric": Key(
            value_kinds.choice(*FABRICS),
            'What kind of switch it is. "bridge" learns where addresses are. "openvswitch" is '
            "programmed by OpenFlow: it knows where addresses are, and spreads flows over the "
            "links that lead there by as few links, as `ecmp` says. Between such switches rings "
            "are allowed on both testbeds. On Linux it is Debian's Open vSwitch with its datapath "
            "in user space, run inside the lab (some 400 Mb/s in all); its hash is its own, so "
            "that ports may take other ways there than in simulation.",
            "bridge",
        ),
        "ecmp": Key(
            value_kinds.choice("addresses", "ports"),
            "What chooses among several links of a fabric that lead on: a hash of the two "
            "addresses, or of addresses and ports, so that subflows on one pair of addresses "
            '(`ndiffports`) take several ways. For fabric = "openvswitch".',
            shown='"ports"',
        ),
        "ports": Key(
            value_kinds.NAMES,
            'Interfaces connected to the switch without a link ("host:interface"): at the rate of '
            "their NIC, without delay. Links that end at the switch are not listed here.",
            (),
            "none",
        ),
    },
)

BURST_LOSS = Section(
    "links.NAME.burst_loss",
    "Loss in bursts, in the place of `loss`: a good and a bad state, between which each packet may "
    "bring the link (Gilbert and Elliott; `tc netem loss gemodel`). The bad state lasts for "
    "1/`bad_to_good` packets on average.",
    {
        "good_to_bad": Key(
            value_kinds.FRACTION,
            "Probability, at each packet, of going from the good state to the bad one.",
            required=True,
            aliases=("p",),
        ),
        "bad_to_good": Key(
            value_kinds.FRACTION,
            "Probability, at each packet, of going back.",
            required=True,
            aliases=("r",),
        ),
        "loss_in_bad": Key(
            value_kinds.FRACTION, "Probability of loss in the bad state.", 1.0, '"100%"'
        ),
        "loss_in_good": Key(
            value_kinds.FRACTION, "Probability of loss in the good state.", 0.0, "none"
        ),
    },
)

_CHANNEL: dict[str, Key] = {
    "rate": Key(
        value_kinds.RATE,
        "Rate of each direction. Frames count with Ethernet header and VLAN tag, as in tc.",
        shown="unlimited",
        aliases=("bandwidth", "speed", "capacity"),
    ),
    "trace": Key(
        value_kinds.TEXT,
        "In place of `rate`, a file with a rate over time, relative to this file. It begins with "
        "the run and starts over at its end. Either a line for each packet of 1,500 bytes that "
        "could be sent, with its time in ms (mahimahi's format), or lines `TIME,RATE` from `0,…` "
        "on (CSV), of which the last one lasts as long as the one before it, or is the end if it "
        "has no rate.",
        shown="none",
        aliases=("capacity_trace", "trace_file"),
    ),
    "delay": Key(
        value_kinds.DURATION,
        "One-way delay of each direction.",
        shown="none",
        aliases=("latency", "owd"),
    ),
    "jitter": Key(
        value_kinds.DURATION,
        "The delay varies uniformly by up to this, either way; frames stay in order.",
        0,
        "none",
    ),
    "jitter_distribution": Key(
        value_kinds.choice(*(each.value for each in JitterDistribution)),
        "How the delay varies: evenly within `jitter` (uniform), or with `jitter` as the standard "
        "deviation (normal; pareto: mostly a little early, rarely very late). No packet arrives "
        "before it was sent.",
        "uniform",
        aliases=("distribution",),
    ),
    "jitter_reorders": Key(
        value_kinds.BOOLEAN, "Whether packets may overtake one another through `jitter`.", False
    ),
    "reorder": Key(
        value_kinds.FRACTION,
        "Probability for each packet to arrive without the `delay`, ahead of those before it (as "
        "in netem).",
        0.0,
        "none",
    ),
    "loss": Key(value_kinds.FRACTION, "Probability of loss for each packet.", 0.0, "none"),
    "burst_loss": Key(
        Table(BURST_LOSS),
        "Loss in bursts, in place of `loss`.",
        shown="none",
        aliases=("gemodel", "gilbert", "gilbert_elliott"),
    ),
    "duplicate": Key(
        value_kinds.FRACTION, "Probability for each packet to arrive twice.", 0.0, "none"
    ),
    "corrupt": Key(
        value_kinds.FRACTION,
        "Probability for each packet to arrive damaged, so that its checksum is wrong and the "
        "receiving host drops it.",
        0.0,
        "none",
    ),
    "queue": Key(
        value_kinds.QUEUE,
        "Limit in packets, bytes, time at the link's rate, or BDP (rate times the link's RTT). Of "
        "a list of two, one in packets and one in another unit, the first to be reached counts.",
        shown="the larger of 1 BDP and 100 full frames; with codel and pie 1,000 packets, with "
        "fq_codel 10,240, as in the kernel",
        aliases=("buffer", "limit", "queue_size", "qlen"),
    ),
    "discipline": Key(
        value_kinds.choice(*DISCIPLINES),
        "What the queue drops: packets that find it full (drop-tail), some at random before (red: "
        "gentle random early detection; pie: RFC 8033), or the oldest where packets wait too long "
        "(codel: RFC 8289; fq_codel: RFC 8290, which also gives each flow its turn).",
        "drop-tail",
        aliases=("qdisc", "queue_discipline", "aqm"),
    ),
    "ecn": Key(
        value_kinds.BOOLEAN,
        "Whether a managed queue (any but drop-tail) marks packets whose ends speak ECN, in place "
        "of dropping them (RFC 3168); ask for it with `tunables.ecn`.",
        shown="as the kernel has it: with fq_codel alone",
    ),
    "red_min": Key(
        value_kinds.QUEUE,
        "With `red`, the average queue from which packets are dropped, in the units of `queue`.",
        shown="a third of `red_max`",
    ),
    "red_max": Key(
        value_kinds.QUEUE,
        "With `red`, the average queue at which packets are dropped with `red_probability`; beyond "
        "it the probability rises to 1 at twice that queue.",
        shown="half of the limit",
    ),
    "red_probability": Key(
        value_kinds.FRACTION,
        "With `red`, the probability of a drop at `red_max`.",
        shown='"10%"',
    ),
    "target": Key(
        value_kinds.POSITIVE_DURATION,
        "With `codel`, `fq_codel` and `pie`, how long packets may wait.",
        shown='"5ms"; with `pie` "15ms"',
    ),
    "interval": Key(
        value_kinds.POSITIVE_DURATION,
        "With `codel` and `fq_codel`, for how long packets may have waited longer than `target` "
        "before the first is dropped.",
        shown='"100ms"',
    ),
    "quantum": Key(
        value_kinds.size(256, 1 << 20),
        "With `fq_codel`, how many bytes a flow sends in its turn.",
        shown="a full frame",
    ),
    "overhead": Key(
        value_kinds.integer(0, 256),
        "Extra bytes that each frame takes on the link; 24 are Ethernet's preamble, FCS and gap.",
        0,
    ),
}

_ONE_OF_TWO = (Rule(("rate", "trace"), 0, 1), Rule(("loss", "burst_loss"), 0, 1))

DIRECTION = Section(
    "links.NAME.forward",
    "Values for one direction alone: `[links.NAME.forward]` is from the first end to the second, "
    "`[links.NAME.backward]` from the second to the first.",
    {name: replace(key, default=None, shown="as the link's") for name, key in _CHANNEL.items()},
    _ONE_OF_TWO,
)

LINK = Section(
    "links",
    "Emulated links. In a scenario with a `topology`, a table here changes the topology's link of "
    "that name, or adds a link.",
    {
        "between": Key(
            value_kinds.BETWEEN,
            "The two ends, each a host or router (its next free interface), a `host:interface` or "
            "a switch.",
            required=True,
            aliases=("ends", "from", "to", "nodes", "endpoints"),
        ),
        "for": Key(
            value_kinds.NAMES,
            "A host with a `count`, for each of which the link is made, with the number behind its "
            'name: `for = "client"` with `between = ["client", "r1"]` joins each client to r1. '
            "Several hosts of the same count go through their numbers together.",
            shown="once",
        ),
        **_CHANNEL,
        "rtt": Key(
            value_kinds.DURATION,
            "Round-trip time, in place of `delay`: half of it is the delay of each direction.",
            shown="none",
        ),
        "mtu": Key(value_kinds.integer(576, 65535), "Largest IP packet, in bytes.", 1500),
        "up": Key(value_kinds.BOOLEAN, "Whether the link is up at the start of the run.", True),
        "backup": Key(
            value_kinds.BOOLEAN,
            "Whether subflows over it are backups: `backup` of the hosts' interfaces at its ends.",
            False,
        ),
        "families": Key(
            value_kinds.FAMILIES,
            "Address families that interfaces on this link get addresses of.",
            shown="the scenario's",
        ),
        "driver": Key(
            value_kinds.choice("auto", "kernel", "netem", "tap"),
            "What emulates the link on the Linux testbed: the kernel's shaper (rate, no delay), "
            "netem, or mptcplab's emulator on TAP devices. On real hosts links are as they are; "
            '"netem" makes their delay, jitter and loss on the interfaces at their ends.',
            "auto",
        ),
        "environment": Key(
            value_kinds.choice("", "lan", "wan", "man"),
            "The report's group of links: LAN, WAN or management.",
            "",
            "none",
            aliases=("env",),
        ),
        "middleboxes": Key(
            Rows(MIDDLEBOX, "kind"),
            "Middleboxes at the first end of the link, which packets from there pass in this "
            "order before the queue, and packets to there in the opposite one behind the delay: "
            '`middleboxes = ["nat", { kind = "strip", options = "MP_JOIN" }]`.',
            shown="none",
            aliases=("middlebox", "boxes"),
        ),
        "spare": Key(
            value_kinds.BOOLEAN,
            "Whether `lab links lan`, `wan` and `all` leave it down, as the report's script left "
            "VLAN 2000.",
            False,
        ),
        "forward": Key(Table(DIRECTION), "Values from the first end to the second alone."),
        "backward": Key(Table(DIRECTION), "Values from the second end to the first alone."),
    },
    (Rule(("delay", "rtt"), 0, 1), *_ONE_OF_TWO),
)

APPLICATIONS = (
    "bulk",
    "iperf3",
    "striped",
    "request-response",
    "web",
    "video",
    "paced",
    "udp",
    "command",
    "gridftp",
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
        "for": Key(
            value_kinds.NAMES,
            "A host with a `count`, for each of which the flow is made, as with links; of `links` "
            "made so, each flow has that of its number.",
            shown="once",
        ),
        "protocol": Key(
            value_kinds.choice("mptcp", "tcp", "sctp"),
            'Protocol; of "udp" and "command" the application says it. "sctp" is one association '
            "over the addresses of all paths, by libusrsctp on Linux hosts "
            "(`docs/guides/sctp.md`).",
            shown='"mptcp"; "tcp" where striped',
        ),
        "cmt": Key(
            value_kinds.BOOLEAN,
            "Whether SCTP sends on all paths at once (concurrent multipath transfer), or on the "
            "first, and on others while that fails.",
            False,
            aliases=("multipath", "concurrent"),
        ),
        "sctp": Key(
            Settings(value_kinds.SCTP_VALUE, "|".join(value_kinds.SCTP_SETTINGS)),
            "Settings of SCTP by libusrsctp's names of them (`usrsctp_sysctl_set_sctp_NAME`): "
            "`sctp = { rto_min_default = 200, path_rtx_max_default = 0 }` in ms and "
            "retransmissions.",
        ),
        "application": Key(
            value_kinds.choice(*APPLICATIONS),
            'What sends: "bulk" writes as fast as the connection takes data; "iperf3" runs that '
            'program; "striped" sends one file over parallel TCP connections spread over the '
            'links, as GridFTP does. With "request-response", "web" and "video", `from` asks and '
            '`to` answers; "paced" and "udp" send messages at a `rate`, one way; "command" runs a '
            'program on Linux hosts; "gridftp" moves a file there by Debian\'s GridFTP. '
            "`docs/guides/applications.md` explains them.",
            "bulk",
            aliases=("app",),
        ),
        "connections": Key(
            value_kinds.integer(1, 128),
            "Parallel connections.",
            1,
            aliases=("sessions", "parallel"),
        ),
        "start": Key(value_kinds.DURATION, "When the flow starts.", 0, "0"),
        "stop": Key(value_kinds.POSITIVE_DURATION, "When the flow stops.", shown="at the end"),
        "size": Key(value_kinds.size(1), "Bytes to send; the flow ends then.", shown="no limit"),
        "buffer": Key(
            value_kinds.size(4096, 2**31 - 1),
            "Send and receive buffer of the sockets, as getsockopt returns it: twice what `iperf "
            "-w` or setsockopt asks for.",
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
            "Bytes of each write (`iperf -l`).",
            65536,
            '"64KiB"',
            aliases=("length", "block_size"),
        ),
        "write_rate": Key(
            value_kinds.RATE,
            "Rate at which the application writes on each connection, one write after another "
            "(`iperf3 -b`).",
            shown="as fast as the connection takes data",
            aliases=("send_rate", "bitrate"),
        ),
        "read_rate": Key(
            value_kinds.RATE,
            "Rate at which the application reads on each connection, as much as one write at a "
            "time.",
            shown="as fast as data arrive",
        ),
        "congestion": Key(
            value_kinds.choice(
                *CONGESTION,
                classes=True,
                renamed={"olia-linux": "olia"},
                more=value_kinds.KERNEL_CONGESTION,
            ),
            "Congestion control of each subflow; lia, olia, balia and wvegas couple them. SCTP has "
            "reno (RFC 9260), highspeed, htcp, and with `cmt` lia. "
            "Simulation has these, cubic (as the kernel's, with HyStart), reno, bbr (version 1), "
            "dctcp, and, which kernels have not, cubic-rfc9438 (without HyStart), cubic-hystart "
            "(with HyStart++, RFC 9406) and olia-draft. The Linux testbed has its kernel's own, "
            "and by BPF lia, olia and balia (as root, from Linux 6.4 on). An object of your own "
            'with a BPF congestion control, such as "mine.bpf.o", is for the Linux testbed, with '
            "`--plugins`.",
            shown='"cubic"; "reno" for sctp',
            aliases=("congestion_control", "cc"),
        ),
        "links": Key(
            value_kinds.NAMES,
            "The links that the flow may use; the first carries the initial subflow.",
            shown="all between the hosts",
            aliases=("paths", "via", "use"),
        ),
        "client": Key(
            value_kinds.TEXT,
            "Which of the two hosts opens the connection; of gridftp, which one runs the client: "
            "`from` uploads, `to` downloads.",
            shown="`from`",
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
        "request": Key(
            value_kinds.SIZES,
            "Size of each request (request-response, web, video); 24 bytes at least.",
            shown="100 bytes; 400 bytes for web and video",
            aliases=("request_size",),
        ),
        "response": Key(
            value_kinds.SIZES,
            "Size of each response (request-response), or of a page's document (web).",
            shown='"10KB"; "30KB" for web',
            aliases=("response_size", "reply"),
        ),
        "think": Key(
            value_kinds.DURATIONS,
            "Time from a response to the next request of its connection (request-response), or "
            "from a page to the next (web).",
            shown='0; "1s" for web',
            aliases=("think_time", "pause"),
        ),
        "persistent": Key(
            value_kinds.BOOLEAN,
            "Whether a connection is kept for further requests (request-response, web), or each "
            "request has a new one.",
            shown="true; false with `arrivals`",
            aliases=("keep_alive", "kept"),
        ),
        "fast_open": Key(
            value_kinds.BOOLEAN,
            "TCP Fast Open (RFC 7413; request-response, web, video): the first connection gets a "
            "cookie of the server's, later ones carry their request in the SYN, which saves a "
            "round trip of plain TCP where each request has a new connection. MPTCP of version 0 "
            "has none.",
            False,
            aliases=("tfo", "tcp_fastopen"),
        ),
        "count": Key(
            value_kinds.integer(1, 10_000_000),
            "Requests, pages, chunks or messages after which the flow ends.",
            shown="no limit",
            aliases=("requests", "pages"),
        ),
        "arrivals": Key(
            value_kinds.ARRIVALS,
            'Times between requests, which then come by the clock (request-response): "poisson '
            '20ms" (the mean), any distribution of durations, or "file NAME" with the times of '
            "arrival from the flow's start on, in seconds, one a line.",
            shown="each after the response to the one before",
            aliases=("interarrival",),
        ),
        "objects": Key(
            value_kinds.integer(0, 10_000),
            "Objects of each page, beside its document (web).",
            shown="20",
        ),
        "object_size": Key(
            value_kinds.SIZES, "Size of each object of a page (web).", shown='"20KB"'
        ),
        "chunk": Key(
            value_kinds.POSITIVE_DURATION, "Playing time of each chunk (video).", shown='"4s"'
        ),
        "ladder": Key(
            value_kinds.RATES,
            "The rates in which each chunk is offered (video).",
            shown='["400kb/s", "1Mb/s", "2.5Mb/s", "5Mb/s", "8Mb/s"]',
            aliases=("bitrates",),
        ),
        "playout_buffer": Key(
            value_kinds.POSITIVE_DURATION,
            "How much playing time the player buffers (video).",
            shown='"30s"',
        ),
        "startup": Key(
            value_kinds.POSITIVE_DURATION,
            "How much playing time must be there before playing begins (video).",
            shown="one chunk",
        ),
        "rate": Key(
            value_kinds.RATE,
            "Rate of the messages of each connection, headers not counted (paced, udp).",
            shown="none: paced and udp must have one",
        ),
        "message": Key(
            value_kinds.SIZES,
            "Size of each message (paced, udp); 24 bytes at least.",
            shown="1,200 bytes",
            aliases=("message_size", "packet_size"),
        ),
        "on": Key(
            value_kinds.DURATIONS,
            "For how long messages are sent before a pause (paced, udp); with `off`.",
            shown="all the time",
        ),
        "off": Key(
            value_kinds.DURATIONS, "How long each pause is (paced, udp).", shown="no pauses"
        ),
        "command": Key(
            value_kinds.TEXT,
            "The program that runs on `from`, with its arguments (command). `{server}` and "
            "`{port}` stand for the address of `to` and for the flow's port.",
            shown="none: command must have one",
        ),
        "server_command": Key(
            value_kinds.TEXT,
            "The program that runs on `to` from before the flow starts until it is over (command).",
            shown="none",
        ),
        "streams": Key(
            value_kinds.integer(1, 32),
            "Parallel data connections, of each stripe where it is striped (gridftp; "
            "`globus-url-copy -p`).",
            shown="1",
            aliases=("parallelism",),
        ),
        "striped": Key(
            value_kinds.BOOLEAN,
            "Whether a data node at each end of each path moves its stripes of the file, over TCP "
            "(gridftp; `globus-url-copy -stripe`).",
            shown="false",
        ),
    },
)

_GENERATED_LINK = {name: key for name, key in LINK.keys.items() if name not in ("between", "for")}
_GENERATED_FLOW = {
    name: key for name, key in FLOW.keys.items() if name not in ("from", "to", "for")
}

GENERATE = Section(
    "generate",
    "A network by rule, in place of tables for each host and link; tables that the file has "
    "besides change what is generated, or add to it. `dumbbell`: `hosts` a1, a2, ... and as many "
    "b1, b2, ... with routers left and right and the link bottleneck between. `leaf-spine`: "
    "`leaves`, each with `hosts` h1-1, h1-2, ..., all joined to all `spines`. `fat-tree`: of "
    "switches with `k` ports, k³/4 hosts h0-0-0, ... (SIGCOMM 2008). `torus`: `size` links l1, l2, "
    "..., and as many hosts a1, ... and b1, ..., each pair over two neighbouring links (NSDI "
    "2011). `parking-lot`: `hops` links l1, l2, ... in a row, a flow over all of them and one over "
    "each. `--set` changes its keys, or what it generates, in this order.",
    {
        "kind": Key(
            value_kinds.choice("dumbbell", "leaf-spine", "fat-tree", "torus", "parking-lot"),
            "Which network.",
            required=True,
        ),
        "hosts": Key(
            value_kinds.integer(1, 1000),
            "Hosts on each side of a dumbbell, or at each leaf.",
            shown="2; 4 at a leaf",
        ),
        "leaves": Key(value_kinds.integer(1, 500), "Leaf routers.", shown="4"),
        "spines": Key(value_kinds.integer(1, 100), "Spine routers.", shown="2"),
        "k": Key(value_kinds.integer(2, 18), "Ports of each router, an even number.", shown="4"),
        "size": Key(value_kinds.integer(3, 500), "Links of a torus.", shown="5"),
        "hops": Key(value_kinds.integer(1, 500), "Links in a row.", shown="3"),
        "ecmp": Key(value_kinds.choice("addresses", "ports"), "As of each router.", "addresses"),
        "traffic": Key(
            value_kinds.choice("pairs", "permutation", "none"),
            'Flows: "pairs" are f1, f2, ... from each a to its b, and from each host of a '
            "leaf-spine or fat-tree to the one half of all further on; "
            '"permutation" are from each host to another one at random, each once, by the '
            "`seed` in the file.",
            "pairs",
        ),
        "link": Key(
            Table(
                Section(
                    "generate.link",
                    "What the links between routers have: the keys of a link.",
                    _GENERATED_LINK,
                    LINK.rules,
                )
            ),
            "The links between routers.",
        ),
        "access": Key(
            Table(
                Section(
                    "generate.access",
                    "What the links of hosts have: the keys of a link.",
                    _GENERATED_LINK,
                    LINK.rules,
                )
            ),
            "The links of hosts; as `link` where it is not given.",
        ),
        "flow": Key(
            Table(
                Section(
                    "generate.flow",
                    "What each generated flow has: the keys of a flow.",
                    _GENERATED_FLOW,
                )
            ),
            "The flows.",
        ),
    },
)

ACTION = Section(
    "timeline",
    "Events during the run. One entry may have several of `up`, `down`, `change`, `start`, `stop`, "
    "`set_priority`, `add_address`, `remove_address`, `enable` and `disable`; the values that "
    "`change` sets are `rate` or `trace`, `delay` or `rtt`, `jitter` and what follows it.",
    {
        "at": Key(
            value_kinds.DURATION,
            "When, counted from the start of the run.",
            required=True,
            aliases=("time", "t"),
        ),
        "up": Key(value_kinds.NAMES, "Links to set up, or NICs (`host:nic`) with all their VLANs."),
        "down": Key(
            value_kinds.NAMES, "Links to set down, or NICs (`host:nic`) with all their VLANs."
        ),
        "change": Key(value_kinds.NAMES, "Links to change.", aliases=("set", "modify")),
        "start": Key(value_kinds.NAMES, "Flows to start."),
        "stop": Key(value_kinds.NAMES, "Flows to stop."),
        "set_priority": Key(
            value_kinds.NAMES,
            "Interfaces (`host:interface`), or links with the interfaces at their ends, subflows "
            "from which become backups or regular ones, as `backup` says (MP_PRIO).",
        ),
        "add_address": Key(
            value_kinds.NAMES,
            "Endpoints (`host:interface` or `host:address`, of those in `[hosts.NAME.endpoints]`) "
            "to add. One whose first action this is was not there before.",
        ),
        "remove_address": Key(
            value_kinds.NAMES,
            "Endpoints to delete: the peer is told (REMOVE_ADDR), and their subflows are closed.",
        ),
        "backup": Key(value_kinds.BOOLEAN, "What `set_priority` makes of subflows."),
        "for": Key(
            value_kinds.POSITIVE_DURATION,
            "How long it holds: then links come up or go down again, values, priorities and "
            "endpoints are what they were.",
            shown="until another action",
        ),
        "every": Key(
            value_kinds.POSITIVE_DURATION,
            "Time from one occurrence to the next, until the end of the run; with `for`. What "
            "repeats begins no stage.",
            shown="once",
        ),
        "enable": Key(value_kinds.NAMES, 'Middleboxes to switch on: "link:name" or "router:name".'),
        "disable": Key(
            value_kinds.NAMES,
            "Middleboxes to switch off: all passes as it is, and what they have remembered of "
            "connections is forgotten.",
        ),
        "rate": Key(value_kinds.RATE, "New rate."),
        "delay": Key(value_kinds.DURATION, "New delay, one way."),
        "rtt": Key(value_kinds.DURATION, "New round-trip time, half of it each way."),
        "trace": Key(
            value_kinds.TEXT, "New trace, from its beginning, in place of the rate or the old one."
        ),
        "jitter": Key(value_kinds.DURATION, "New jitter."),
        "jitter_distribution": Key(
            value_kinds.choice(*(each.value for each in JitterDistribution)),
            "New distribution of the jitter.",
        ),
        "jitter_reorders": Key(value_kinds.BOOLEAN, "Whether packets overtake through jitter now."),
        "reorder": Key(value_kinds.FRACTION, "New probability to overtake."),
        "loss": Key(value_kinds.FRACTION, "New loss, of single packets."),
        "burst_loss": Key(Table(BURST_LOSS), "New loss, in bursts."),
        "duplicate": Key(value_kinds.FRACTION, "New probability to arrive twice."),
        "corrupt": Key(value_kinds.FRACTION, "New probability to arrive damaged."),
        "direction": Key(
            value_kinds.choice("both", "forward", "backward"),
            "Direction that `change` applies to.",
            "both",
        ),
        "label": Key(value_kinds.TEXT, "Label in figures.", "", "made from the action"),
    },
    (
        Rule(
            (
                *("up", "down", "change", "start", "stop", "enable", "disable"),
                *("set_priority", "add_address", "remove_address"),
            ),
            1,
            10,
        ),
        Rule(("delay", "rtt"), 0, 1),
        *_ONE_OF_TWO,
    ),
)

_OF = Key(value_kinds.TEXT, 'What is measured: "total", a flow or a link.', "total")
_STAGE = Key(
    value_kinds.integer(0, 1000),
    "Number of the stage, counted from 0: stages are what timeline actions divide the run into, "
    "and all output numbers them so.",
    shown="the whole run",
)

EXPECT = Section(
    "expect",
    "Expected goodput or latency, which the verdict compares with the run's.",
    {
        "goodput": Key(value_kinds.RATE, "Expected goodput.", aliases=("value", "rate")),
        "tolerance": Key(value_kinds.FRACTION, "Allowed deviation from `goodput`.", 0.05, '"5%"'),
        "at_least": Key(
            value_kinds.RATE, "Least goodput, in place of `goodput`.", aliases=("minimum", "min")
        ),
        "stage": _STAGE,
        "of": _OF,
        "settle": Key(
            value_kinds.DURATION,
            "Time from the start of the stage that is left out of the measurement. A stage of "
            "which less than two intervals remain is too short to judge.",
            shown="the scenario's `settle`",
        ),
        "latency": Key(
            value_kinds.POSITIVE_DURATION,
            "Most time of a request or message of the flow `of`, at `percentile`, in place of "
            "`goodput`.",
            aliases=("delay", "response_time"),
        ),
        "percentile": Key(value_kinds.PERCENTILE, "Which percentile `latency` is of.", shown="95"),
        "source": Key(value_kinds.TEXT, "Where the value comes from.", "", "none"),
    },
    (Rule(("goodput", "at_least", "latency"), 1, 1),),
)

MEASURED = Section(
    "report.measured",
    "Values that the 2012 report gives.",
    {
        "value": Key(value_kinds.RATE, "The rate.", required=True, aliases=("goodput",)),
        "kind": Key(
            value_kinds.choice("measured", "derived", "capacity"),
            'Whether the report measured it ("measured"), it follows from what the report says '
            '("derived"; `note` says how), or it is what the links could carry ("capacity").',
            "measured",
        ),
        "source": Key(value_kinds.TEXT, "Section, figure or table.", required=True),
        "stage": _STAGE,
        "of": _OF,
        "note": Key(value_kinds.TEXT, "A remark on the value.", "", "none"),
    },
)

FINDING = Section(
    "report.findings",
    "What the 2012 report observed where it gives no value.",
    {
        "text": Key(value_kinds.TEXT, "The observation, in short.", required=True),
        "source": Key(value_kinds.TEXT, "Section, figure or table.", required=True),
        "stage": _STAGE,
    },
)

REPORT = Section(
    "report",
    "What the 2012 report says about the experiment.",
    {
        "section": Key(value_kinds.TEXT, "The section of the report.", "", "none"),
        "figures": Key(value_kinds.FIGURES, "The figures of the report.", (), "none"),
        "summary": Key(value_kinds.TEXT, "What the report found, in short.", "", "none"),
        "measured": Key(Rows(MEASURED), "Values that the report gives."),
        "findings": Key(Rows(FINDING), "Observations without a value."),
    },
)

POINT = Section(
    "sweep.points",
    "One run of a sweep.",
    {
        "label": Key(value_kinds.TEXT, "Name of the run in tables and figures.", required=True),
        "set": Key(value_kinds.STRINGS, "Keys to change, as in `--set`.", required=True),
        "x": Key(value_kinds.NUMBER, "Position on the axis.", shown="its number in the list"),
        "figures": Key(
            value_kinds.FIGURES, "The report's figures of this run over time.", (), "none"
        ),
        "measured": Key(Rows(MEASURED), "Values that the report measured in this run."),
        "inspect": Key(
            Settings(value_kinds.integer(1, 99), "throughput|windows|dsn|rtt"),
            "The report's figures that follow from the captures of this run, by the name that "
            "`inspect --figures` has for them: `inspect = { windows = 32 }`.",
        ),
        "on": Key(
            value_kinds.choice("", "simulated", "linux"),
            "The one testbed that can run it; `reproduce` leaves it out on the other.",
            "",
            "either",
        ),
    },
)

SWEPT_KEY = r"[^\s=]+"
SWEEP = Section(
    "sweep",
    "Variants of the scenario, which `mptcplab sweep` runs (and `mptcplab reproduce` its points); "
    "`mptcplab run` ignores them.",
    {
        "axis": Key(value_kinds.TEXT, "Label of the axis, with its unit.", "", "none"),
        "figures": Key(value_kinds.FIGURES, "The report's figures of the whole sweep.", (), "none"),
        "points": Key(Rows(POINT), "Variants with names of their own."),
        "over": Key(
            Settings(value_kinds.LISTED, SWEPT_KEY),
            "Keys, as for `--set`, with the values that they take: each with each.",
        ),
        "zip": Key(
            Settings(value_kinds.LISTED, SWEPT_KEY),
            "Keys with values that go together, the first of one with the first of the others.",
        ),
        "repetitions": Key(
            value_kinds.integer(1, 10_000),
            "Runs of each point, each with the next seed.",
            shown="the scenario's",
        ),
        "precision": Key(
            value_kinds.FRACTION,
            "Make further runs of a point until the 95 % intervals are within this part of the "
            'means, as in `"5%"`.',
            shown="the repetitions alone count",
        ),
        "settle": Key(
            value_kinds.DURATION,
            "Start-up that goodput leaves out.",
            shown="the scenario's",
        ),
        "metrics": Key(
            value_kinds.STRINGS,
            'What is summed up and drawn, as in `["goodput of bulk"]`.',
            (),
            "all",
        ),
    },
)

_NETWORK: dict[str, Key] = {
    "title": Key(value_kinds.TEXT, "A title of one line.", "", "none"),
    "families": Key(
        value_kinds.FAMILIES,
        "Address families that every interface has; missing addresses are derived.",
        shown='"ipv4" where an interface has none',
        aliases=("family",),
    ),
    "generate": Key(Table(GENERATE), "A network by rule."),
    "hosts": Key(Tables(HOST, "host", listed=True), "The hosts."),
    "switches": Key(Tables(SWITCH, "switch", listed=True), "The switches."),
    "routers": Key(Tables(ROUTER, "router", listed=True), "The routers."),
    "links": Key(Tables(LINK, "link"), "The links."),
}

TOPOLOGY = Section(
    "topology file", "A network that scenarios refer to by `topology`.", dict(_NETWORK)
)

SCENARIO = Section(
    "scenario file",
    "One experiment: a network, its traffic, and events during the run.",
    {
        "title": _NETWORK["title"],
        "question": Key(value_kinds.TEXT, "The question that the run is to answer.", "", "none"),
        "lesson": Key(
            value_kinds.TEXT,
            "What one learns from it, which `run` and `mptcplab experiments` print.",
            "",
            "none",
        ),
        "duration": Key(
            value_kinds.POSITIVE_DURATION,
            "How long the run lasts.",
            shown="until the last flow stops, where each has a `stop`",
            aliases=("time", "length"),
        ),
        "interval": Key(
            value_kinds.POSITIVE_DURATION,
            "Time between samples, at least 10 ms. When `--duration` or `--time-scale` shortens a "
            "run, the interval becomes short enough for ten samples in the shortest stage, unless "
            "`--interval` is given.",
            1_000_000_000,
            '"1s"',
        ),
        "seed": Key(value_kinds.integer(0, 2**63 - 1), "Seed of all random numbers.", 1),
        "trains": Key(
            value_kinds.BOOLEAN,
            "Whether a simulation follows packets of a large window in trains, as parts of the "
            "window, which is faster; `false` follows each packet, to see that it makes no "
            "difference. Runs that capture always do.",
            True,
        ),
        "repetitions": Key(
            value_kinds.integer(1, 1000),
            "How many runs `reproduce`, `compare` and `goals` make of each variant, each with the "
            "next seed; where it is 1, `compare` and `goals` make 5. `run` makes one, or what its "
            "`--repetitions` says.",
            1,
        ),
        "settle": Key(
            value_kinds.DURATION,
            "Start-up that goodput leaves out: this much of each flow's time from its start, of "
            "the whole run and of each stage. The time that a flow with a `size` takes is the "
            "whole of it. Less than two intervals that remain are too short to judge.",
            shown="0; in `goals`, a quarter of the run",
            aliases=("warm_up", "warmup"),
        ),
        "start_jitter": Key(
            value_kinds.DURATION,
            "Each flow starts at random up to this later than its `start`, but by no more than "
            "2 % of its time; 0: at its `start`.",
            DEFAULT_START_JITTER_NS,
            '"10ms"',
        ),
        "processing_jitter": Key(
            value_kinds.DURATION,
            "Random time that simulated hosts take for packets: the delay of each direction of a "
            "link varies within this span, half of it either way, where the link has no `jitter` "
            "of its own; 0: none. The Linux testbed ignores it: its hosts take their own time.",
            shown="half the time of a full frame on the link, 500 us at most",
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
            "The links to build, of those that the topology and this file declare.",
            shown="all",
            aliases=("use_links",),
        ),
        "families": _NETWORK["families"],
        "generate": _NETWORK["generate"],
        "hosts": _NETWORK["hosts"],
        "switches": _NETWORK["switches"],
        "routers": _NETWORK["routers"],
        "links": _NETWORK["links"],
        "tunables": Key(Table(TUNABLES), "Tunables of all hosts."),
        "flows": Key(Tables(FLOW, "flow"), "The flows."),
        "timeline": Key(Rows(ACTION), "Events during the run."),
        "expect": Key(Rows(EXPECT), "Expected goodput, for the verdict."),
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

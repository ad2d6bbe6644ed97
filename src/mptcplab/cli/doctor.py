"""``mptcplab doctor``: what this machine can do, and what to do about what it cannot."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mptcplab.provenance import SLOWDOWN, Build, how_to_compile, stale_modules, this_build

if TYPE_CHECKING:
    from mptcplab.linux.kernel.capabilities import Capabilities

_MACHINE_CANNOT = 3
REPORT_BUFFER_BYTES = 115_343_360
"""net.core.rmem_max and wmem_max on the report's hosts (section 3.2.2)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    ``needed`` is whether the Linux testbed stands or falls with it; ``cost`` is what is lost
    without it and ``remedy`` how to get it, both empty where it is there.
    """

    name: str
    present: bool
    needed: bool
    cost: str = ""
    remedy: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor", help="say what this machine can do, and what to do about what it cannot"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 3 where the Linux testbed cannot run here."""
    build = this_build()
    findings, kernel = examine()
    able = all(finding.present for finding in findings if finding.needed)
    findings = [compiled_finding(build.compiled, stale_modules()), *findings]
    if args.json:
        values = {"build": asdict(build), "kernel": kernel, "linux_testbed": able}
        print(json.dumps({**values, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        _print(build, findings, kernel, able)
    return 0 if able else _MACHINE_CANNOT


def compiled_finding(compiled: bool, stale: list[str]) -> Finding:
    """Return whether the compiled build runs, and whether it is of the sources as they are."""
    if stale:
        newer = ", ".join(stale[:3]) + (f" and {len(stale) - 3} more" if len(stale) > 3 else "")
        cost = f"what changed after the last compilation does not run: {newer}"
    else:
        cost = f"simulations take about {SLOWDOWN} times longer, with the same results"
    return _finding("compiled build", compiled and not stale, False, cost, how_to_compile())


def examine() -> tuple[list[Finding], str]:
    """Try what the testbeds use on this machine, in namespaces that are gone afterwards."""
    import platform

    from mptcplab.linux.errors import MachineCannotError
    from mptcplab.linux.kernel.capabilities import probe
    from mptcplab.linux.lab.congestion import coupled_obstacle
    from mptcplab.linux.lab.host_limits import limit_bytes, put_back_left_over
    from mptcplab.linux.lab.supervisor import run_supervised
    from mptcplab.linux.standing_lab import registry

    put_back_left_over(registry())
    try:
        found: Capabilities = run_supervised(lambda _: probe())
    except MachineCannotError as error:
        finding = Finding("namespaces", False, True, "the Linux testbed cannot run", str(error))
        return [finding, *_programs()], platform.release()
    return [
        Finding("namespaces", True, True),
        *_kernel_findings(found),
        _coupled(coupled_obstacle()),
        _program_buffers(limit_bytes()),
        *_programs(),
    ], found.kernel


def _finding(name: str, present: bool, needed: bool, cost: str, remedy: str) -> Finding:
    return Finding(name, present, needed, "" if present else cost, "" if present else remedy)


def _kernel_findings(found: Capabilities) -> list[Finding]:
    testbed = "the Linux testbed cannot run"
    return [
        _finding("MPTCP", found.mptcp, True, testbed, "a kernel from 5.6 on with CONFIG_MPTCP=y"),
        _finding("veth", found.veth, True, testbed, "CONFIG_VETH"),
        _finding(
            "bridge",
            found.bridge,
            False,
            "topologies with switches cannot be built",
            "CONFIG_BRIDGE",
        ),
        _finding("tbf", found.tbf, True, testbed, "CONFIG_NET_SCH_TBF"),
        _finding(
            "clsact, u32, mirred",
            found.redirect,
            True,
            testbed,
            "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED",
        ),
        _finding(
            "netem",
            found.netem,
            False,
            "links with delay, jitter or loss go through the TAP emulator"
            if found.tap
            else "links with delay, jitter or loss cannot be built",
            "CONFIG_NET_SCH_NETEM (Debian, Ubuntu: modprobe sch_netem)",
        ),
        _finding(
            "TAP",
            found.tap,
            False,
            "links with queues in packets, and without netem those with delay, jitter or loss, "
            "cannot be built",
            "modprobe tun, and access to /dev/net/tun (containers: --device /dev/net/tun)",
        ),
        _finding(
            "8021q",
            found.vlan,
            False,
            "VLANs are separate interfaces of the same names, without tags",
            "CONFIG_VLAN_8021Q (modprobe 8021q)",
        ),
        _finding(
            "ifb",
            found.ifb,
            False,
            "a NIC's rate cannot be shared by its VLANs",
            "CONFIG_IFB (modprobe ifb)",
        ),
        _finding(
            "openvswitch",
            found.openvswitch,
            False,
            "programs in a lab have Open vSwitch's userspace datapath alone",
            "CONFIG_OPENVSWITCH (modprobe openvswitch)",
        ),
        _finding(
            "sctp",
            found.sctp,
            False,
            "programs in a lab cannot open the kernel's SCTP sockets",
            "CONFIG_IP_SCTP (modprobe sctp)",
        ),
        _finding(
            "cubic as a host's default",
            found.congestion_control_by_name,
            False,
            "programs that do not choose their congestion control get this machine's default",
            "sysctl net.ipv4.tcp_allowed_congestion_control='reno cubic'; flows of a scenario are "
            "not affected",
        ),
        _finding(
            "real-time priority",
            found.realtime,
            False,
            "the TAP emulator is late when other programs want the CPU",
            "root (CAP_SYS_NICE), and cpu.rt_runtime_us where a control group rations it",
        ),
        _finding(
            "flows' socket buffers of any size",
            found.buffer_max_bytes is None,
            False,
            f"a flow's buffer may have {(found.buffer_max_bytes or 0) / 1e6:.1f} MB at most",
            "root, or sysctl net.core.wmem_max and net.core.rmem_max of half the size wanted",
        ),
    ]


def _coupled(obstacle: str | None) -> Finding:
    """Return whether flows on the kernel may have coupled congestion control."""
    return _finding(
        "lia, olia and balia on the kernel (BPF)",
        obstacle is None,
        False,
        "flows with these run in simulation, or on hosts with our own stack",
        obstacle or "",
    )


def _program_buffers(limit: int | None) -> Finding:
    """Return whether programs on hosts may have buffers as large as the report's."""
    known = "an unknown size" if limit is None else f"{limit} bytes"
    return _finding(
        "programs' socket buffers (iperf -w) as the report's, of 115 MB",
        limit is not None and limit >= REPORT_BUFFER_BYTES,
        False,
        f"programs in a lab, and iperf3 in a run, may ask for {known} at most",
        "`lab up` or `run` with --raise-host-limits (root), or sysctl net.core.rmem_max and "
        "net.core.wmem_max: they are the machine's, not a host's",
    )


def _programs() -> list[Finding]:
    from shutil import which

    from mptcplab.linux.lab.fabric import PACKAGE, missing_programs
    from mptcplab.linux.traffic.sctp import missing_library

    wanted = (
        ("iperf3", "iperf3", 'flows with application = "iperf3" cannot run'),
        ("mptcpize", "mptcpize", "iperf3 before 3.19 and GridFTP cannot speak MPTCP"),
        (
            "globus-url-copy",
            "globus-gass-copy-progs and globus-gridftp-server-progs",
            'flows with application = "gridftp" cannot run',
        ),
        ("tshark", "tshark", "captures cannot be checked against Wireshark's dissector"),
        ("tcpdump", "tcpdump", "runs cannot capture packets"),
    )
    library = missing_library()
    sctp = _finding(
        "SCTP in user space (libusrsctp)",
        library is None,
        False,
        'flows with protocol = "sctp" cannot run',
        library or "",
    )
    missing = missing_programs()
    switches = _finding(
        "Open vSwitch",
        not missing,
        False,
        f'switches with fabric = "openvswitch" cannot be built (no {", ".join(missing)})',
        f"install {PACKAGE}; its service need not run",
    )
    programs = [
        _finding(name, which(name) is not None, False, cost, f"install {package}")
        for name, package, cost in wanted
    ]
    return [*programs, sctp, switches]


def _print(build: Build, findings: list[Finding], kernel: str, able: bool) -> None:
    print(f"mptcplab {build.text}")
    print(f"Linux {kernel}")
    for finding in findings:
        mark = "yes" if finding.present else "NO " if finding.needed else "no "
        print(f"  {mark}  {finding.name}")
        if not finding.present:
            print(f"         without it: {finding.cost}")
            print(f"         to get it:  {finding.remedy}")
    print("The Linux testbed can run here." if able else "The Linux testbed cannot run here.")

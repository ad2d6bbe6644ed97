"""The choice between the testbeds, for this machine and a scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mptcplab.scenario.model import Scenario

AUTO: Final = "auto"


def choose(scenario: Scenario) -> tuple[str, str]:
    """Return the testbed for a scenario on this machine, and why it is that one.

    The Linux testbed where the machine can run it and a kernel can do what the scenario asks for;
    simulated time elsewhere.
    """
    from mptcplab.cli.doctor import examine
    from mptcplab.linux.measure.unsupported import UnsupportedError, check_supported

    findings, kernel = examine()
    missing = [finding for finding in findings if finding.needed and not finding.present]
    if missing:
        reasons = "; ".join(f"{each.name}: {each.remedy}" for each in missing)
        return "simulated", f"the Linux testbed cannot run here ({reasons})"
    try:
        check_supported(scenario)
    except UnsupportedError as error:
        reasons = "; ".join(str(error).splitlines())
        return "simulated", f"the Linux testbed lacks what the scenario asks for ({reasons})"
    return "linux", f"Linux {kernel} has everything it needs"

"""What runs in the virtual machine: what ``mptcplab doctor`` finds, then tests.

    python -m tests.kernels.inside TEST...

Both in one process, since to import what they share takes an emulated processor seconds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mptcplab.cli.doctor import examine

RESULTS = Path("/run/results")
DOCTOR = "doctor.json"
REPORT = "report.xml"


def main(tests: list[str]) -> int:
    """Leave the findings and the tests' report in RESULTS; return pytest's exit status."""
    findings, _ = examine()
    found = {finding.name: finding.present for finding in findings}
    (RESULTS / DOCTOR).write_text(json.dumps(found))
    return pytest.main(["-v", "-p", "no:cacheprovider", f"--junitxml={RESULTS / REPORT}", *tests])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

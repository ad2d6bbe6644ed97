"""Coverage-guided fuzzing of the capture analysis, with atheris (not a dependency of the project).

    python -m venv FUZZ && FUZZ/bin/pip install -r requirements.lock && FUZZ/bin/pip install atheris
    PYTHONPATH=src FUZZ/bin/python tests/fuzz/inspect_any_bytes.py CORPUS -max_total_time=3600

Seeds are the captures in ``tests/captures``; put them, decompressed, into CORPUS.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

with atheris.instrument_imports(include=["mptcplab"]):
    from mptcplab import trace
    from mptcplab.trace.explain import event_lines, explanation
    from mptcplab.trace.export import to_json
    from mptcplab.trace.packets import packet_lines
    from mptcplab.trace.tables import tables

PATH = Path(tempfile.mkdtemp()) / "input"


def one_input(data: bytes) -> None:
    """Do everything that a user can ask of a capture."""
    PATH.write_bytes(data)
    try:
        capture = trace.open(PATH)
    except trace.CaptureError:
        return
    to_json(capture)
    list(explanation(capture))
    list(packet_lines(capture, None))
    list(event_lines(capture, capture.connections))
    tables(capture)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

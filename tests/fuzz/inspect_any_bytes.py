"""Coverage-guided fuzzing of the capture analysis, with atheris (not a dependency of the project).

    python -m venv FUZZ && FUZZ/bin/pip install -r requirements.lock && FUZZ/bin/pip install atheris
    PYTHONPATH=src FUZZ/bin/python tests/fuzz/inspect_any_bytes.py CORPUS -max_total_time=3600

Seeds are the captures in ``tests/captures``; put them, decompressed, into CORPUS.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

with atheris.instrument_imports(include=["mptcplab"]):
    from mptcplab import trace
    from mptcplab.trace.connections import inference
    from mptcplab.trace.files import capture as capture_file
    from mptcplab.trace.files import merging, record_scan
    from mptcplab.trace.follow import (
        checksums,
        flow_table,
        holes,
        mappings,
        read_pass,
        rtt,
        samples,
    )
    from mptcplab.trace.output.explain import event_lines, explanation
    from mptcplab.trace.output.tables import tables
    from mptcplab.trace.output.to_json import to_json
    from mptcplab.trace.packets import packet_lines

PATH = Path(tempfile.mkdtemp()) / "input"

_LIMITS: Final = (
    (capture_file, {"_BLOCK_BYTES": 1024, "_FIRST_BLOCK_BYTES": 512, "BATCH_PACKETS": 5}),
    (merging, {"BATCH_PACKETS": 5}),
    (record_scan, {"_FEWEST_RECORDS": 12, "_FEWEST_SEGMENTS": 4, "_SEGMENT_RECORDS": 2}),
    (flow_table, {"MAX_FLOWS": 3}),
    (mappings, {"MAX_EXTENTS": 4, "_MAX_LATER": 2, "_MAX_LONG": 4}),
    (samples, {"MAX_ROWS": 6}),
    (checksums, {"_MOST_WAITING": 1, "_MOST_NARROW": 3, "_MOST_WRONG": 2, "_FEW": 2}),
    (holes, {"_MAX_HOLES": 2}),
    (rtt, {"_MAX_WAITING": 3}),
    (inference, {"_MAX_UNPLACED": 2, "_MOST_CARRIERS": 1, "_MOST_NEIGHBOURS": 2}),
    (read_pass, {"_MOST_NOTES": 4}),
)
"""Limits that a few packets reach: floods, captures of many blocks and batches, in small."""
_USUAL: Final = [
    (module, {name: getattr(module, name) for name in small}) for module, small in _LIMITS
]


def one_input(data: bytes) -> None:
    """Do everything that a user can ask of a capture; half of all inputs meet small limits."""
    for module, values in _LIMITS if sum(data[-16:]) & 1 else _USUAL:
        for name, value in values.items():
            setattr(module, name, value)
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

"""No input makes the analysis crash: captures with bytes changed, cut, repeated, swapped."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pytest
from bench.fuzz.targets import capture as search_target
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.search import cases

from mptcplab import trace
from mptcplab.trace.output.explain import explanation
from mptcplab.trace.output.to_json import to_json
from mptcplab.trace.packets import packet_lines

FOLDER = Path(__file__).parents[2] / "captures"
SEEDS = [
    gzip.decompress((FOLDER / f"{name}.pcap.gz").read_bytes())
    for name in ("addresses", "abort", "checksums", "plain-peer")
]


def digest(data: bytes) -> None:
    """Do everything that a user can ask of a capture."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pcap"
        path.write_bytes(data)
        try:
            capture = trace.open(path)
        except trace.CaptureError:
            return
        to_json(capture)
        list(explanation(capture))
        list(packet_lines(capture, None))


@pytest.mark.parametrize("path", sorted((FOLDER / "damaged").iterdir()), ids=lambda path: path.stem)
def test_what_a_search_has_found(path: Path, tmp_path: Path) -> None:
    """Captures on which an analysis has once crashed, with all that the search does of them."""
    search_target(gzip.decompress(path.read_bytes()), tmp_path)


@pytest.mark.slow
@settings(max_examples=cases(60))
@given(st.data())
def test_damaged_captures(choices: st.DataObject) -> None:
    """Some bytes changed, some removed, some repeated."""
    draw = choices.draw
    data = bytearray(SEEDS[draw(st.integers(0, len(SEEDS) - 1))])
    for _ in range(draw(st.integers(1, 12))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                data[at] = draw(st.integers(0, 255))
            case 1:
                data[at : at + 4] = draw(st.binary(min_size=4, max_size=4))
            case 2:
                del data[at : at + draw(st.integers(1, 40))]
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
        if not data:
            break
    digest(bytes(data))


@pytest.mark.slow
@settings(max_examples=cases(60))
@given(st.integers(0, len(SEEDS) - 1), st.binary(max_size=2000))
def test_noise_after_a_valid_start(seed: int, noise: bytes) -> None:
    digest(SEEDS[seed][: 24 + len(noise)] + noise)

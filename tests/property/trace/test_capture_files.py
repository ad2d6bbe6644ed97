"""Captures made by structure: whatever their fields say, they are read or refused, in no time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.property.trace.capture_files import pcap_files, pcapng_files, sound_pcapng_files
from tests.property.trace.test_any_input import digest
from tests.search import cases

from mptcplab.trace.files.capture import CaptureFile

USUAL = settings(
    max_examples=cases(80),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONGEST_S = 5.0


@pytest.mark.slow
@USUAL
@given(data=pcapng_files())
def test_any_pcapng_file(data: bytes) -> None:
    start_s = time.process_time()
    digest(data)
    assert time.process_time() - start_s < LONGEST_S


@pytest.mark.slow
@USUAL
@given(data=pcap_files())
def test_any_pcap_file(data: bytes) -> None:
    start_s = time.process_time()
    digest(data)
    assert time.process_time() - start_s < LONGEST_S


@pytest.mark.slow
@USUAL
@given(sound=sound_pcapng_files())
def test_sections_and_interfaces_are_read_as_they_are(
    sound: tuple[bytes, list[tuple[int, int, int]]], tmp_path: Path
) -> None:
    data, packets = sound
    path = tmp_path / "x.pcapng"
    path.write_bytes(data)
    file = CaptureFile(path)
    read = [
        (time_ns // 1000, link_type, size)
        for batch in file.batches()
        for time_ns, link_type, size in zip(
            batch.time_ns.tolist(), batch.link_type.tolist(), batch.captured.tolist(), strict=True
        )
    ]
    assert read == [(min(time_us, 2**32 * 10**6 + time_us % 10**6), *rest)
                    for time_us, *rest in packets]  # fmt: skip
    assert not file.damage

"""The modes of a connection, held against RFC 8684 sections 3.1 and 3.7, row by row."""

from __future__ import annotations

import pytest

from mptcplab.stack.mptcp.mode import Evidence, Mode, Verdict, judge, next_mode

AT_THE_START = (Evidence.NO_CAPABLE, Evidence.NO_THIRD_CAPABLE, Evidence.FIRST_BARE)
LATER = (
    Evidence.UNMAPPED_DATA,
    Evidence.BARE_ACKS,
    Evidence.INFINITE_MAPPING,
    Evidence.BAD_CHECKSUM,
    Evidence.FAIL_RECEIVED,
)


@pytest.mark.parametrize("evidence", AT_THE_START)
def test_without_options_in_the_handshake_it_is_plain_tcp(evidence: Evidence) -> None:
    assert judge(Mode.OFFERED, evidence, alone=True) is Verdict.CHANGE
    assert next_mode(Mode.OFFERED, evidence) is Mode.PLAIN


@pytest.mark.parametrize("evidence", AT_THE_START)
def test_once_confirmed_lack_of_handshake_options_means_nothing(evidence: Evidence) -> None:
    assert judge(Mode.FULL, evidence, alone=True) is Verdict.KEEP


def test_the_peers_data_ack_confirms_once() -> None:
    assert next_mode(Mode.OFFERED, Evidence.CONFIRMED) is Mode.FULL
    assert judge(Mode.FULL, Evidence.CONFIRMED, alone=False) is Verdict.KEEP


@pytest.mark.parametrize("evidence", LATER)
@pytest.mark.parametrize("mode", [Mode.OFFERED, Mode.FULL])
def test_in_mid_connection_only_one_subflow_may_fall_back(mode: Mode, evidence: Evidence) -> None:
    assert judge(mode, evidence, alone=True) is Verdict.CHANGE
    assert judge(mode, evidence, alone=False) is Verdict.IMPOSSIBLE


def test_a_failed_checksum_is_one_direction_and_mp_fail_the_other() -> None:
    assert next_mode(Mode.FULL, Evidence.BAD_CHECKSUM) is Mode.RX_INFINITE
    assert next_mode(Mode.RX_INFINITE, Evidence.FAIL_RECEIVED) is Mode.INFINITE
    assert next_mode(Mode.FULL, Evidence.FAIL_RECEIVED) is Mode.TX_INFINITE
    assert next_mode(Mode.TX_INFINITE, Evidence.BAD_CHECKSUM) is Mode.INFINITE


@pytest.mark.parametrize("evidence", list(Evidence))
@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.INFINITE])
def test_there_is_no_way_back(mode: Mode, evidence: Evidence) -> None:
    assert judge(mode, evidence, alone=True) is Verdict.KEEP
    assert next_mode(mode, evidence) is mode

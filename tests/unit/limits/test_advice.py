"""What advice is worked out from."""

from __future__ import annotations

from mptcplab.limits import advice
from mptcplab.stack.config import MIN_RTO_NS


def test_the_least_timeout_is_that_of_the_stack() -> None:
    assert advice._LEAST_RTO_NS == MIN_RTO_NS

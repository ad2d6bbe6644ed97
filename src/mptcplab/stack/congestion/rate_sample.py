"""What an ACK says of the rate at which a path delivers (Linux's struct rate_sample)."""

from __future__ import annotations


class RateSample:
    """One delivery rate sample; the subflow fills the same object each time.

    Only for controls that ask for it (``CongestionControl.controls_rate``).
    """

    __slots__ = (
        "app_limited",
        "delivered_bytes",
        "interval_ns",
        "limit_by_application",
        "lost_bytes",
        "next_send_ns",
        "prior_delivered_bytes",
        "prior_in_flight_bytes",
        "recovering",
        "timed_out",
        "total_delivered_bytes",
        "total_lost_bytes",
    )

    def __init__(self) -> None:
        self.delivered_bytes: int = 0
        """Delivered over the interval."""
        self.interval_ns: int = -1
        """Over what time; -1 where the sample says nothing."""
        self.prior_delivered_bytes: int = 0
        """What was delivered in all when the packet left that the sample is of."""
        self.app_limited: bool = False
        """The application had nothing more to send then."""
        self.total_delivered_bytes: int = 0
        self.total_lost_bytes: int = 0
        self.lost_bytes: int = 0
        """Deemed lost by this ACK."""
        self.prior_in_flight_bytes: int = 0
        """In flight before this ACK."""
        self.next_send_ns: int = 0
        """When pacing lets the next packet leave; may be past."""
        self.recovering: bool = False
        """In fast recovery after this ACK,"""
        self.timed_out: bool = False
        """or in the recovery from a timeout."""
        self.limit_by_application: bool = False
        """The control's answer: take what leaves next for limited by the application."""

"""Congestion control: one policy per file, each a subclass of ``base.CongestionControl``."""

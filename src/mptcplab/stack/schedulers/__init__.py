"""Packet schedulers: one policy per file, each a subclass of ``base.Scheduler``."""

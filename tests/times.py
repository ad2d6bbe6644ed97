"""Durations in nanoseconds, which is how the whole package counts time."""

from __future__ import annotations

US = 1_000
MS = 1_000 * US
SECOND = 1_000 * MS
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

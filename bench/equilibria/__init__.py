"""Measures where congestion controls settle, beside the closed forms (docs/validation/congestion.md)."""

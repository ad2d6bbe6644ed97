"""Measures where congestion controls settle, beside the closed forms.

The results are in ``docs/validation/congestion.md``.
"""

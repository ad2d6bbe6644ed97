"""Figures, tables and verdicts drawn from a run."""

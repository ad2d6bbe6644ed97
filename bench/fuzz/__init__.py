"""Searches for input that breaks a promise, guided by what code inputs reach."""

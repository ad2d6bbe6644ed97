"""Testbed: hosts running the package's stack over modelled links in virtual time."""

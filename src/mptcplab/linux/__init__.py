"""Testbed: network namespaces on the running Linux kernel."""

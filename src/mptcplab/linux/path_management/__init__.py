"""Endpoints that follow their links."""

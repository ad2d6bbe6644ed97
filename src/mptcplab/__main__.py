"""``python -m mptcplab`` is ``mptcplab``."""

from mptcplab.cli.main import entry

entry()

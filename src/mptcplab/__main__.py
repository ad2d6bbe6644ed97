"""``python -m mptcplab`` is ``mptcplab``."""

try:
    from mptcplab.cli.main import entry
except KeyboardInterrupt:
    raise SystemExit(130) from None

entry()

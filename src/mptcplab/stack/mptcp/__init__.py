"""The connection level of Multipath TCP (RFC 8684, and RFC 6824 as version 0)."""

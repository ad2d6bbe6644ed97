"""From the bytes of a packet to TCP and MPTCP fields, many packets at once."""

"""One TCP subflow: states, timers, round-trip times, loss recovery, reassembly (RFC 9293)."""

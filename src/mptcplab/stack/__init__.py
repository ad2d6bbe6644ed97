"""The sans-IO MPTCP stack: no socket, clock, thread or random source of its own."""

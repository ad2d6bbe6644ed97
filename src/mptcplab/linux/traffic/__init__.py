"""The built-in traffic generator, which checks every byte that arrives, and iperf3 beside it."""

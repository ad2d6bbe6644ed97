"""From flows to MPTCP connections, and what each did."""

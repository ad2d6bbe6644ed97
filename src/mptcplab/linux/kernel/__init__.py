"""The kernel's interfaces: netlink, traffic control, MPTCP endpoints, namespaces."""

"""Hosts of the Linux testbed whose TCP is our stack: TCP goes to a TUN device, all else stays.

The kernel keeps such a host's interfaces and addresses, answers ARP, neighbour discovery and
echoes, and forwards: TCP that arrives for an address goes to the TUN device that a process of ours
serves (:mod:`~mptcplab.linux.own_stack.process`), and what our stack sends from an address leaves
by that address's interface, by the same rules as for a host of the kernel's
(:mod:`~mptcplab.linux.lab.steering`).  The testbed's side of the process is
:mod:`~mptcplab.linux.measure.own_stack_host`.
"""

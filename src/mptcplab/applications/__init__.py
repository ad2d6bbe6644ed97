"""What applications do with their connections, sans-IO: state machines that no testbed knows of.

A client says which connections to open, what to write on each and when; it is told what has arrived
and when, and notes it. Whoever drives it owns the sockets and the clock: the simulator, a process
on the kernel's sockets, or a host with our stack.
"""

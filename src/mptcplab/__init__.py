"""A laboratory for Multipath TCP.

One scenario file describes hosts, links, flows and a timeline.  A testbed runs it, on the Linux
kernel's MPTCP or on the package's own stack, and leaves a run: one folder of tables and metadata.
"""

__version__ = "0.1.0"

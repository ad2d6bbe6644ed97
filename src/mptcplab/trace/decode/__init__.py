"""The bytes of a batch to TCP and MPTCP fields, many packets at once.

``layers`` walks each packet to its innermost TCP header, by the steps of ``link_layers``, ``ip``
and ``tunnels``; ``fast_path`` takes plain Ethernet, IPv4 and TCP in one step before, and
``fragments`` reassembles datagrams.  ``segments`` decodes TCP headers and options, ``dss`` the
option that every data packet carries; other options go through ``wire``, and what the snap length
left of an option through ``truncated_options``.
"""

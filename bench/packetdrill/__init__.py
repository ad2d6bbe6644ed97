"""Scripts of packetdrill for Multipath TCP, played against our stack in virtual time.

    python -m bench.packetdrill FOLDER [--only TEXT]

``FOLDER`` holds the ``.pkt`` scripts, for instance ``gtests/net/mptcp`` of a clone of
https://github.com/multipath-tcp/packetdrill. System calls become calls of the application's
interface (``sockets``), inbound packets are put together from keys, tokens and HMACs as packetdrill
does, and what the stack sends is compared with what the script expects (``values``). The table says
of each script that it passes, that it fails, or which choice of an RFC explains the difference
(``reasons``); a script of which only such differences are left was played to its end with them.

What is not compared: padding and order of TCP options, values of timestamps, Linux's MIB counters
and whether a 4-byte DATA_ACK or DSN was said with 8 bytes, which RFC 8684 section 3.3 leaves open.
"""

"""Bytes to and from IP, TCP and MPTCP headers (versions 0 and 1), keys, HMACs, pcap files."""

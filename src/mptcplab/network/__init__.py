"""The link model and the topology: hosts, NICs, VLANs, switches, links."""

"""A lab: from a topology to namespaces, interfaces, links, addresses and endpoints."""

"""From captures to connections, subflows, mappings and explanations."""

"""What happened on a connection, and why."""

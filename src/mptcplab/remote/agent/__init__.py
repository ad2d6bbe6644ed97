"""What runs on a real host while it is part of a testbed: sent over SSH, kept in memory alone."""

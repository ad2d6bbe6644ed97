"""The run folder: versioned tables and metadata, written and read."""

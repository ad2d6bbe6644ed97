"""Capture files: formats, compression, records in batches."""

"""Following flows batch by batch, in one pass over the capture."""

"""A reconstruction as text, tables, figures and JSON."""

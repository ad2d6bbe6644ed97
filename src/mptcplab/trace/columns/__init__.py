"""Columns of many packets: fields, numbered keys, addresses."""

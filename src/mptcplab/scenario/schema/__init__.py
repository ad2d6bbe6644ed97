"""Every key of a scenario file, and reading files by them.

``value_kinds`` parses single values, ``parts`` says what a schema is made of, and ``keys`` declares
all keys; validation (``read``), ``documentation`` and ``json_schema`` follow from it.
``source_files`` merges a file, its topology and ``--set`` into the one tree that is read.
"""

"""Columns with one element per packet, on which everything else in ``trace`` is built.

``fields`` reads big-endian fields of many packets at once, ``interning`` numbers distinct keys,
``address_book`` makes numbers of addresses, ``sequence_numbers`` unwraps 32-bit numbers and
``growing`` holds tables with a row for each flow.
"""

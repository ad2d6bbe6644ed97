"""Capture files to batches of packets whose bytes are not decoded yet.

``opening`` finds the files, ``sources`` and ``interface`` are where bytes come from.  ``batch`` is
what all formats are read into.  ``pcap`` and ``pcapng`` say what a record looks like,
``record_scan`` finds the records in a block of bytes, ``capture`` opens and decompresses a file and
yields its batches, and ``merging`` interleaves several files by time.
"""

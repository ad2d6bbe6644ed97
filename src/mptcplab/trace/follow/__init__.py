"""One pass over a capture, batch by batch, that keeps a bounded digest of what each half did.

A *half* is one direction of a flow.  ``read_pass`` drives the pass; ``decoded`` has the
next batch read and decoded meanwhile.  For each batch ``flow_table`` numbers the flows,
``by_direction`` sorts the segments by half, and ``tcp`` computes what is new, retransmitted,
acknowledged and in flight, with ``holes`` and ``rtt``.  Kept are ``samples`` (slots of time), and,
from the mappings that ``announced_mappings`` finds, ``mappings`` (which bytes stood for which data
sequence numbers) and ``checksums``.
"""

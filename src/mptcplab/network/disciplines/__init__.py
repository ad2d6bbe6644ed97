"""What decides which packets of a queue go on, and which are marked or dropped: AQM.

One file a discipline. Drop-tail needs no packets one by one, and is in `network.link`.
"""

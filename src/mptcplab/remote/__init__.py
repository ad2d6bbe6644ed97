"""The testbed of real hosts: machines over SSH, each with an agent that leaves nothing behind.

``agent`` is what runs on the hosts, of the standard library alone; ``bundle`` sends it.  Only
``ssh`` imports asyncssh, which the extra ``hosts`` installs.
"""

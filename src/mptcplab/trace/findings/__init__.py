"""What happened on a connection, and what held it up.

``events`` tells a connection's life in sentences, with the pauses that ``idle_subflows`` finds.
``series`` has one direction over time and ``throughput`` its rate in bins; ``stalls`` and ``dips``
explain them.  ``vantage`` tells where a capture was taken, ``completeness`` what it lacks;
``sender_view`` has what the sender knew, ``waits`` and ``clocked`` what it waited for, and
``limits`` divides the time of a direction among these causes.
"""

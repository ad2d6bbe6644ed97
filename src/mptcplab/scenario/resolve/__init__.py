"""Parsed tables to the parts of a ``Scenario``.

``network`` builds the topology with ``addresses`` and ``channels``; then come ``flows``,
``timeline`` and ``tunables``, then ``expectations`` (the 2012 report's values, the verdict's limits
and sweeps).  ``time_scaling`` applies ``--duration`` and ``--time-scale`` last.
"""

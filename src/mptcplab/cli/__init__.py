"""The command line: ``main``, one module for each sub-command, and what they share.

``scenario_arguments`` has the options that choose and change a scenario, ``testbeds`` the testbeds
by name, ``progress`` what is shown during a run, ``render`` a finished run as text and ``columns``
aligned tables.
"""

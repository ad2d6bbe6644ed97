"""Many runs of a scenario: which, made by whom, kept where, and what they come to.

``design`` says which points there are, ``tasks`` what a run of one is, ``engine`` makes them, on
this machine's cores or a cluster's, ``store`` keeps a row of each, and ``summary`` sums them up.
"""

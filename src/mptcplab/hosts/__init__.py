"""Why a live host makes the subflows that it makes.

``facts`` says what is known of a host, ``read`` reads it from this machine's kernel, ``probe``
opens one connection to a peer and watches it, ``packets`` tells what packets show of it.  ``judge``
makes of these, and of nothing else, what will join and what will not, and why; ``explain`` and
``to_json`` say it.  Nothing here changes the host.
"""

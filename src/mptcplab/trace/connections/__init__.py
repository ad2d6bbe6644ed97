"""What a pass kept, put together as connections and subflows.

``build`` groups flows by handshakes and tokens, ``inference`` those whose handshake was not
captured; ``summary`` fills in what each half did and, with ``reinjection``, what was sent twice at
the data level.  ``model`` holds the result.
"""

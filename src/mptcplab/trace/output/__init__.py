"""A reconstruction as text (``explain``), JSON (``to_json``), ``tables`` and ``figures``."""

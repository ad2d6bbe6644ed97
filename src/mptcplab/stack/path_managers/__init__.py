"""Path managers: one policy per file, each a subclass of ``base.PathManager``."""

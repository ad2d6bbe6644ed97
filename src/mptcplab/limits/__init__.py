"""What held a connection back: one vocabulary of causes, for runs and for captures."""

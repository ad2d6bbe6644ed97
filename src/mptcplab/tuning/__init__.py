"""What a scenario asks of our stack, as the stack's configuration: both testbeds run it."""

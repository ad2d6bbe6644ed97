"""Clock and timers: one interface, in virtual time and in real time."""

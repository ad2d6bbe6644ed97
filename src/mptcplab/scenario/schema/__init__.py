"""What a scenario file may hold: keys, kinds of values, reading, documentation."""

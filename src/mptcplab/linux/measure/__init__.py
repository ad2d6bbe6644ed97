"""What runs and measures a scenario on a lab."""

"""From parsed tables to the parts of a Scenario."""

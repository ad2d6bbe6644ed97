"""From a TOML file to a validated, fully resolved Scenario."""

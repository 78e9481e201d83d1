"""Tables and JSON for people and pipelines."""

"""The configuration of a run: one YAML file in TRL's own format."""

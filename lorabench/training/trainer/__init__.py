"""Train: a configuration becomes a run folder with events, checkpoints and an adapter."""

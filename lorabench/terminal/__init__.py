"""The terminal, kept to ourselves: what anything prints goes to a log, and no run is lost with the line."""

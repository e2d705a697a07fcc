"""Will it train? Findings about a configuration, each computed before anything is loaded or trained."""

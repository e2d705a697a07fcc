"""The command line: the headless twins of the screens."""

COMMANDS = (
    *("open", "describe", "analyze", "base", "new", "check"),
    *("train", "watch", "stop", "audit", "serve-check", "demo"),
)

"""lorabench: the terminal workbench for LoRA."""

__version__ = "0.1.0"

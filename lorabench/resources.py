"""Find what ships beside the code: styles and sample adapters, installed, editable or in a checkout."""

from __future__ import annotations

from pathlib import Path


def resource(name: str) -> Path:
    """Return the folder `styles` or `sample_adapters`.

    A wheel carries them inside the package; a checkout and an editable install have them beside it.
    """
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name

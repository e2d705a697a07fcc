"""Read a configuration's text, and write it so that a crash leaves the old file or the new one, whole."""

from __future__ import annotations

from pathlib import Path

from lorabench.files import cannot, is_folder, open_plain, replace_text
from lorabench.text import human_bytes, visible
from lorabench.training.config.field import ConfigError

LARGEST = 100_000
"""Bytes: ten times a configuration with every field in it."""


def read_text(path: Path) -> str:
    """Return the text of a file, line ends and byte order mark kept.

    Raises:
        ConfigError: it cannot be read, or is no text; says why.
    """
    name = visible(path)
    try:
        if is_folder(path):
            raise ConfigError(f"{name} is a folder, and no configuration.", "Name the run.yaml in it.")
        with open_plain(path) as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{name} is not there.", "lorabench new FOLDER makes one.") from error
    except OSError as error:
        raise ConfigError(*cannot(path, "read", error)) from error
    if len(content) > LARGEST:
        raise ConfigError(f"{name} is larger than {human_bytes(LARGEST)}: no configuration is.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is no text (byte {error.start} is not UTF-8).") from error
    if "\0" in text:
        raise ConfigError(f"{name} is no text (it holds NUL bytes).")
    return text


def write_text(path: Path, text: str) -> None:
    """Write a whole file or, when anything fails, leave what was there; see `files.replace_text`.

    Raises:
        ConfigError: it cannot be written; says why.
    """
    try:
        replace_text(path, text)
    except OSError as error:
        raise ConfigError(*cannot(path, "written", error)) from error

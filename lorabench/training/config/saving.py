"""Read a configuration's text, and write it so that a crash leaves the old file or the new one, whole."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from lorabench.files import open_plain
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
        if path.is_dir():
            raise ConfigError(f"{name} is a folder, and no configuration.", "Name the run.yaml in it.")
        with open_plain(path) as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{name} is not there.", "lorabench new FOLDER makes one.") from error
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}.") from error
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
    """Write a whole file or, when anything fails, leave what was there.

    A link stays a link, and the file that it points to keeps its permissions.

    Raises:
        ConfigError: it cannot be written; says why.
    """
    target = path.resolve()
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        try:
            with draft.open("xb") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                draft.chmod(mode)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{visible(path)} cannot be written: {error.strerror}.") from error

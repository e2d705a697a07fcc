"""A configuration file as TRL's own parser reads it."""

from pathlib import Path

import pytest


@pytest.fixture
def trl_reads(monkeypatch):
    """Parse a file as `trl sft --config` does; give the dataclasses, and what accelerate gets."""

    def parse(path: Path):
        from trl.scripts.sft import make_parser

        monkeypatch.setenv("LORABENCH", "")  # so that what the parser sets is taken back
        *read, left, _ = make_parser().parse_args_and_config(
            ["--config", str(path)], return_remaining_strings=True, separate_remaining_strings=True
        )
        return read, left

    return parse

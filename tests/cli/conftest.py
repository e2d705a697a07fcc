"""An adapter with a healthy, a dead and an unreadable layer, and the command run as a user runs it."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.spectra.made import pair_with, random_pair, write_adapter
from tests.terminal import COMMAND, environment


@pytest.fixture(scope="session")
def adapter(tmp_path_factory) -> Path:
    """Rank 8, scaling 2; q_proj of layers 0 to 3: alive, alive and three times larger, dead, NaN."""
    values = np.geomspace(4, 0.1, 8)
    nan_a, nan_b = random_pair(24, 32, 8)
    nan_b[3, 3] = np.nan
    dead_a, dead_b = random_pair(24, 32, 8)
    pairs = {
        "0.self_attn.q_proj": pair_with(values, 24, 32),
        "1.self_attn.q_proj": pair_with(values * 3, 24, 32),
        "2.self_attn.q_proj": (dead_a, dead_b * 0),
        "3.self_attn.q_proj": (nan_a, nan_b),
    }
    folder = tmp_path_factory.mktemp("cli") / "style-r8"
    return write_adapter(folder, pairs, lora_alpha=16, base_model_name_or_path="org/base-1B")


@pytest.fixture(scope="session")
def lorabench():
    """Run `lorabench` with these words, its output piped; return the finished process."""

    def run(*words: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, *map(str, words)]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=environment(**env), timeout=120
        )

    return run

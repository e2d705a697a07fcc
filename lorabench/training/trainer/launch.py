"""Start a training in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lorabench.runs.history import RUN_FILE
from lorabench.runs.output import OUTPUT_FILE
from lorabench.training.config.run_config import RunConfig


def launch(
    path: Path,
    *,
    resume: bool | None = None,
    override: bool = False,
    accelerate: Path | None = None,
    processes: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m lorabench.training.trainer` on `path`, in a session of its own: no line ends it.

    `accelerate` (a configuration of accelerate's) or `processes` start it through `accelerate launch`. All
    output goes to output.log in the run's folder.

    Raises:
        ConfigError: there is no such file.
        OSError: the output folder cannot be used.
    """
    folder = RunConfig.load(path / RUN_FILE if path.is_dir() else path).folder
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m"]
    if accelerate is not None or processes is not None:
        command += ["accelerate.commands.launch"]
        command += ["--config_file", str(accelerate)] if accelerate is not None else []
        command += ["--num_processes", str(processes)] if processes is not None else []
        if accelerate is None and (processes or 0) > 1:
            # Or accelerate starts one process only. Where there is no GPU, they meet over gloo all the same.
            command += ["--multi_gpu"]
        command += ["-m"]
    command += ["lorabench.training.trainer", str(path)]
    command += [] if resume is None else ["--resume" if resume else "--anew"]
    command += ["--override"] if override else []
    with (folder / OUTPUT_FILE).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

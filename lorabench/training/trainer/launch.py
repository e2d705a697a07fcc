"""Start a training in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lorabench.files import append_plain, is_folder
from lorabench.runs.history import RUN_FILE
from lorabench.runs.output import OUTPUT_FILE
from lorabench.runs.requests import requests_in
from lorabench.runs.reserve import check_room
from lorabench.training.config.launching import launcher_fields
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.processes import accelerate_file


def launch(
    path: Path,
    *,
    resume: bool | None = None,
    override: bool = False,
    accelerate: Path | None = None,
    processes: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m lorabench.training.trainer` on `path`, in a session of its own: no line ends it.

    `accelerate` (a configuration of accelerate's) or `processes` start it through `accelerate launch`, and so
    do the file's own fields for that, as with `trl sft`; an argument counts more. All output goes to
    output.log in the run's folder.

    Raises:
        LorabenchError: there is no such file, or no such configuration of accelerate's.
        OSError: the output folder cannot be used.
    """
    config = RunConfig.to_train(path / RUN_FILE if is_folder(path) else path)
    options = _launcher_options(config, accelerate, processes)
    folder = config.folder
    folder.mkdir(parents=True, exist_ok=True)
    check_room(folder)
    command = [sys.executable, "-m"]
    if options:
        command += ["accelerate.commands.launch", *options, "-m"]
    command += ["lorabench.training.trainer", str(path)]
    command += [] if resume is None else ["--resume" if resume else "--anew"]
    command += ["--override"] if override else []
    # Who launches it may ask for a stop before it has come to take its lock: that one counts.
    command += [f"--ignore={','.join(requests_in(folder))}"]
    with append_plain(folder / OUTPUT_FILE) as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _launcher_options(config: RunConfig, accelerate: Path | None, processes: int | None) -> list[str]:
    fields = launcher_fields(config)
    named = fields.pop("accelerate_config", None)
    if accelerate is not None:
        fields["config_file"] = accelerate
    elif named is not None:
        fields["config_file"] = accelerate_file(str(named))
    if processes is not None:
        fields["num_processes"] = processes
    options = [word for name, value in fields.items() for word in (f"--{name}", str(value))]
    if (processes or 0) > 1 and "config_file" not in fields:
        # Or accelerate starts one process only. Where there is no GPU, they meet over gloo all the same.
        options.append("--multi_gpu")
    return options

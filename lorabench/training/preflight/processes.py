"""How many processes a run will have: what `trl sft` lets accelerate start, as accelerate decides it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lorabench.errors import NOT_AS_TAGGED, LorabenchError
from lorabench.files import is_file, read_plain
from lorabench.text import visible

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

HIDDEN_WORLD_SIZE = "LORABENCH_WORLD_SIZE"
"""Holds WORLD_SIZE where the first of several processes must not meet the others yet."""
HIDDEN_SHARED = "LORABENCH_SHARED"
"""Set where these all run on this machine, and not on its CPU."""
_LARGEST = 100_000  # bytes of accelerate's configuration
_SPREADING = {"MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM"}


@dataclass(frozen=True, slots=True)
class Processes:
    """Their number, who says so, and the number that was asked for where that is not what comes of it.

    `gpus` is how many GPUs they share, where all of them are to run on this machine.
    """

    count: int
    source: str = ""
    asked: int | None = None
    gpus: int | None = None


def processes_of(config: RunConfig) -> Processes:
    """Count the processes of a run on this machine.

    A process that a launcher has started knows it (WORLD_SIZE). Else it is what `trl sft` passes on to
    `accelerate launch` (accelerate 1.x, `_validate_launch_command`): the file's num_processes, or else that
    of accelerate's own file, or else one a GPU. Without such a file, or with one that is not for several
    devices, and with fewer than two GPUs, accelerate starts one process whatever it is asked for.

    Raises:
        LorabenchError: the file names a configuration of accelerate's that is not there.
    """
    launched = os.environ.get("WORLD_SIZE") or os.environ.get(HIDDEN_WORLD_SIZE)
    if launched:
        shared = share_gpus(os.environ) or HIDDEN_SHARED in os.environ
        return Processes(int(launched), "WORLD_SIZE", gpus=gpu_count() if shared else None)
    theirs, place = _accelerate_file(config)
    gpus = gpu_count()
    asked = count = config.get("num_processes")
    source = "num_processes"
    if count is None:
        count, source = theirs.get("num_processes"), f"num_processes in {visible(place)}"
    if not isinstance(count, int):
        count, source = gpus, "one a GPU"
    if count > 1 and (theirs.get("distributed_type") in _SPREADING or (not theirs and gpus > 1)):
        alone = theirs.get("num_machines", 1) == 1 and not theirs.get("use_cpu")
        return Processes(count, source, gpus=gpus if alone else None)
    return Processes(1, asked=asked if count == asked and count > 1 else None)


def share_gpus(variables: Mapping[str, str]) -> bool:
    """Say whether a launcher's processes are all on this machine, and not told to train on its CPU."""
    world, cpu = variables.get("WORLD_SIZE"), variables.get("ACCELERATE_USE_CPU", "").lower()
    return (
        world is not None and world == variables.get("LOCAL_WORLD_SIZE") and cpu not in ("true", "1", "yes")
    )


def gpu_count() -> int:
    """Return how many GPUs torch sees."""
    import torch

    return torch.cuda.device_count()


def _accelerate_file(config: RunConfig) -> tuple[dict[str, Any], str]:
    """Return accelerate's configuration and where it stands; an empty one where there is none."""
    name = config.values.get("accelerate_config") or config.values.get("config_file")
    path = accelerate_file(str(name)) if name else _default_file()
    if not is_file(path):
        return {}, ""
    try:
        content = yaml.safe_load(read_plain(path, _LARGEST).decode())
    except (OSError, RecursionError, yaml.YAMLError, *NOT_AS_TAGGED) as error:
        raise LorabenchError(f"accelerate's {visible(path)} cannot be read: {visible(error)}") from error
    return (content if isinstance(content, dict) else {}), str(name or path)


def accelerate_file(name: str) -> Path:
    """Find a file, or one of those that TRL brings along, as TRL does.

    Raises:
        LorabenchError: there is neither; says which there are.
    """
    if is_file(Path(name)):
        return Path(name)
    from importlib import resources

    folder = resources.files("trl.accelerate_configs")
    path = Path(str(folder.joinpath(f"{name}.yaml")))
    if not is_file(path):
        known = ", ".join(sorted(Path(file.name).stem for file in folder.iterdir() if ".yaml" in file.name))
        raise LorabenchError(
            f"accelerate_config {visible(name)} is neither a file nor one of TRL's.", f"TRL has {known}."
        )
    return path


def _default_file() -> Path:
    """Return where `accelerate config` writes."""
    from accelerate.commands.config.config_args import default_config_file

    return Path(default_config_file)

"""What a file tells `accelerate launch`: `trl sft` passes on what is none of its own fields."""

from __future__ import annotations

from typing import Any

from lorabench.training.config.run_config import RunConfig

# Those options of `accelerate launch` that say how many processes there are, and where.
_PLACES = ("num_machines", "machine_rank", "main_process_ip", "main_process_port", "gpu_ids")


def launcher_fields(config: RunConfig) -> dict[str, Any]:
    """Return the fields with which the run is started by `accelerate launch`; {} where none is needed.

    One process, asked for by num_processes alone, needs none.
    """
    names = ("accelerate_config", "config_file", *_PLACES)
    fields = {name: config.values[name] for name in names if config.values.get(name) is not None}
    processes = config.get("num_processes")
    if processes is not None and (fields or processes > 1):
        fields["num_processes"] = processes
    return fields

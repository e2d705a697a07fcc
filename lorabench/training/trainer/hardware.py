"""What PyTorch will compute on: the device that decides precision and `use_cpu`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.training.preflight.precision import effective_precision

if TYPE_CHECKING:
    from lorabench.training.config.precision import Precision
    from lorabench.training.config.run_config import RunConfig
    from lorabench.training.trainer.watched import WatchedTrainer


@dataclass(frozen=True, slots=True)
class Hardware:
    """A device as PyTorch names it.

    `kind` is PyTorch's word for it (`cuda`, `mps`, `xpu`, `cpu`, …); `capability` is a CUDA GPU's compute
    capability, None for all else.
    """

    kind: str
    name: str
    capability: tuple[int, int] | None = None


def find_hardware() -> Hardware:
    """Return the device that PyTorch takes by itself; the CPU where it has no other.

    PyTorch decides, not the driver: a CPU build of it beside a GPU trains on the CPU.
    """
    import torch

    if torch.cuda.is_available():
        return Hardware("cuda", torch.cuda.get_device_name(), torch.cuda.get_device_capability())
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return Hardware("cpu", "CPU") if accelerator is None else Hardware(accelerator.type, accelerator.type)


def computing(config: RunConfig, hardware: Hardware) -> Precision:
    """Return the arithmetic of a run on this hardware."""
    return effective_precision(config, hardware.capability)


def device_arguments(config: RunConfig, hardware: Hardware) -> dict[str, bool]:
    """Return SFTConfig's `use_cpu`, `bf16` and `fp16` for this hardware.

    TRL's own defaults ask for bf16 and a GPU: without one they raise.
    """
    precision = computing(config, hardware)
    return {
        "use_cpu": bool(config.get("use_cpu")) or hardware.kind == "cpu",
        "bf16": precision.bf16,
        "fp16": precision.fp16,
    }


def gpus_of(trainer: WatchedTrainer) -> list[str]:
    """Return the UUIDs of the CUDA GPUs that train, in all processes, as CUDA tells them.

    They are those that the model lies on, and those that the Trainer copies it to where it trains on several
    in one process. To be called in every process: they tell each other.
    """
    import torch
    from accelerate.utils import gather_object

    model: Any = trainer.model
    devices = {weights.device for weights in model.parameters()}
    if trainer.args.n_gpu > 1:
        devices |= {torch.device("cuda", index) for index in range(trainer.args.n_gpu)}
    mine = [str(torch.cuda.get_device_properties(each).uuid) for each in devices if each.type == "cuda"]
    return sorted(set(gather_object(mine)))
